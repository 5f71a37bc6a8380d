#!/usr/bin/env python3
"""One attack on a service, for scripts/attack: the address and the attack's name. It goes on until it is killed."""

import itertools
import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

AT, NAME = sys.argv[1:]
HOST, PORT = AT.removeprefix("http://").split(":")
HEADERS = {"Authorization": "Bearer " + os.environ["TOKEN"], "Content-Type": "application/json"}
counter = itertools.count()


def send(method, path, body=None, headers=HEADERS):
    """One request. What is answered does not matter."""
    request = urllib.request.Request(AT + path, body, headers, method=method)
    try:
        urllib.request.urlopen(request, timeout=60).read()
    except (urllib.error.URLError, OSError):
        pass


def run(keys):
    return json.dumps({"operation": "photo_processing", "keys": keys}).encode()


def enqueue():
    call = next(counter)
    send("POST", "/v1/events/1/runs", run([f"loud/{call}/{n}.jpg" for n in range(10_000)]))


BODY = b'{"operation":"photo_processing","keys":[' + b'"a",' * 4_000_000 + b'"a"]}'
# Two start lists with no number in common, as long as they may be.
LISTS = ["\n".join(f"{letter}{n}" for n in range(100_000)).encode() for letter in "AB"]


def login():
    form = b"email=staff%40example.com&password=wrong+but+long+enough"
    send("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"})


def half(head):
    """A connection on which the end of the request never comes."""
    try:
        with socket.create_connection((HOST, int(PORT))) as connection:
            connection.sendall(head.encode())
            connection.recv(1000)
    except OSError:
        pass
    time.sleep(1)


HALF_BODY = (
    f"POST /v1/events/1/runs HTTP/1.1\r\nhost: x\r\nauthorization: {HEADERS['Authorization']}\r\n"
    "content-type: application/json\r\ncontent-length: 10000000\r\n\r\n{"
)
HALF_LOGIN = (
    "POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n"
    "content-length: 1000\r\n\r\nemail="
)


def wrong_token():
    send("GET", "/v1/events", None, {"Authorization": f"Bearer pg_{next(counter)}"})


def stream():
    try:
        request = urllib.request.Request(AT + "/v1/events/1/live", None, HEADERS)
        for _ in urllib.request.urlopen(request, timeout=60):
            pass
    except OSError:
        time.sleep(0.1)


# Each attack: how many threads do what, again and again.
ATTACKS = {
    "reads": (64, lambda: send("GET", "/v1/events/1/photos?limit=200")),
    "enqueues": (16, enqueue),
    "bodies": (12, lambda: send("POST", "/v1/events/1/runs", BODY)),
    "half_bodies": (600, lambda: half(HALF_BODY)),
    "half_logins": (200, lambda: half(HALF_LOGIN)),
    "logins": (32, login),
    "wrong_tokens": (64, wrong_token),
    "start_lists": (8, lambda: send("PUT", "/v1/events/1/start-list", LISTS[next(counter) % 2])),
    "streams": (200, stream),
}

if NAME == "unreadable_photos":
    for call in range(4):
        send("POST", "/v1/events/1/runs", run([f"loud/{call}/{n}/{'a' * 240}.jpg/x.jpg" for n in range(500)]))
        send("POST", "/v1/events/1/runs", run([f"loud/{call}/{n}/{'a' * 300}.jpg" for n in range(500)]))
    sys.exit()
threads, attack = ATTACKS[NAME]


def forever():
    while True:
        attack()


for _ in range(threads):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(600)
