"""What a slow store costs a worker: see scripts/bench-slow-store."""

import http.client
import os
import pathlib
import random
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

PHOTOS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
SLOTS = int(sys.argv[2]) if len(sys.argv) > 2 else 2
SAMPLES = sys.argv[3] if len(sys.argv) > 3 else "samples/marathon"
MOTO, FRONT = 19501, 19502
# How long an answer takes, and how many are errors.
LATENCY = float(sys.argv[4]) if len(sys.argv) > 4 else 200
WAYS = {"at once": (0, 0), f"after {LATENCY:.0f} ms, 1 % errors": (LATENCY / 1000, 0.01)}
way = WAYS["at once"]
# How much of the throughput must be left.
WANTED = 0.9
asked = {"requests": 0, "errors": 0}


class Front(BaseHTTPRequestHandler):
    """In front of moto, so that both ways go through it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def forward(self):
        latency, errors = way
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked["requests"] += 1
        time.sleep(latency)
        if random.random() < errors:
            asked["errors"] += 1
            return self.answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
        inner = http.client.HTTPConnection("127.0.0.1", MOTO)
        inner.request(self.command, self.path, body, dict(self.headers))
        found = inner.getresponse()
        headers = {name: value for name, value in found.getheaders()
                   if name.lower() not in ("connection", "content-length", "transfer-encoding", "server", "date")}
        length = found.getheader("Content-Length") if self.command == "HEAD" else None
        self.answer(found.status, headers, found.read(), length)
        inner.close()

    def answer(self, status, headers, body, length=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward


def photogate(*arguments):
    return subprocess.run([os.environ["PHOTOGATE"], *arguments], env=ENVIRONMENT, check=True,
                          stdout=subprocess.DEVNULL)


def counted(sql):
    found = subprocess.run(["psql", os.environ["DATABASE_URL"], "-X", "-q", "-At", "-c", sql], check=True,
                           capture_output=True, text=True)
    return found.stdout.strip()


ENVIRONMENT = {
    **os.environ,
    "PHOTOGATE_STORE_URL": "s3://photos", "PHOTOGATE_MODELS_DIR": "models", "PHOTOGATE_LOG": "warn",
    "PHOTOGATE_SLOTS": str(SLOTS), "AWS_ENDPOINT": f"http://127.0.0.1:{FRONT}", "AWS_ALLOW_HTTP": "true",
    "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
}


def fill():
    s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{MOTO}", region_name="us-east-1",
                      aws_access_key_id="test", aws_secret_access_key="test")
    for _ in range(300):
        try:
            s3.create_bucket(Bucket="photos")
            break
        except Exception:
            time.sleep(0.1)
    # One of the samples ends too early: it is there to fail.
    samples = [file for file in sorted(pathlib.Path(SAMPLES).rglob("*.jpg"))
               if file.read_bytes().endswith(b"\xff\xd9")]
    for number in range(len(WAYS) * PHOTOS):
        # What comes after a photo's end makes it another file, so that none is a duplicate.
        body = samples[number // len(WAYS) % len(samples)].read_bytes() + str(number).encode()
        s3.put_object(Bucket="photos", Key=f"{number % len(WAYS)}/{number}.jpg", Body=body)


def measured(event):
    """Photos a second, from the first that is done to the last."""
    worker = subprocess.Popen([os.environ["PHOTOGATE"], "work"], env=ENVIRONMENT)
    done = f"FROM outcome JOIN photo USING (photo_id) WHERE event_id = {event}"
    try:
        while int(counted(f"SELECT count(*) {done}")) < PHOTOS:
            assert worker.poll() is None, "the worker has ended"
            time.sleep(0.5)
    finally:
        worker.terminate()
        worker.wait()
    rate, processed = counted(f"""SELECT round((count(*) - 1) / extract(epoch FROM max(settled_at) - min(settled_at)), 2),
        count(*) FILTER (WHERE state = 'processed') {done}""").split("|")
    assert int(processed) == PHOTOS, f"{processed} of {PHOTOS} photos were processed"
    return float(rate)


def main():
    global way
    rates = []
    moto = subprocess.Popen([".photogate/moto/bin/moto_server", "-H", "127.0.0.1", "-p", str(MOTO)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        fill()
        threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", FRONT), Front).serve_forever, daemon=True).start()
        photogate("organisations", "create", "Club", "--price", "0.05 EUR")
        photogate("credits", "top-up", "1", str(10 * PHOTOS), "--key", "bench")
        for number, (name, next_way) in enumerate(WAYS.items()):
            photogate("events", "create", "1", name)
            photogate("enqueue", str(number + 1), "--prefix", f"{number}/")
            way = next_way
            asked.update(requests=0, errors=0)
            rates.append(measured(number + 1))
            print(f"{name}: {rates[-1]} photos/s; {asked['requests']} requests, {asked['errors']} errors", flush=True)
            way = WAYS["at once"]
        share = rates[1] / rates[0]
        print(f"With the slow store, {share:.1%} of it; wanted: {WANTED:.0%}")
        if share < WANTED:
            sys.exit(1)
    finally:
        moto.terminate()
        moto.wait()


main()
