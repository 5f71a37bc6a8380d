"""PostgreSQL with TLS, in front of one that has only a socket: `python tls.py PORT DIRECTORY SOCKET`."""

import pathlib
import socket
import ssl
import sys
import threading

DIRECTORY = pathlib.Path(sys.argv[2])
ASKS_FOR_TLS = bytes([0, 0, 0, 8, 4, 210, 22, 47])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(DIRECTORY / "server.pem", DIRECTORY / "server.key")


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client):
    try:
        # Who does not ask for TLS gets nothing.
        if client.recv(8, socket.MSG_WAITALL) != ASKS_FOR_TLS:
            return client.close()
        client.sendall(b"S")
        client = context.wrap_socket(client, server_side=True)
    except OSError:
        return client.close()
    server = socket.socket(socket.AF_UNIX)
    server.connect(sys.argv[3])
    threading.Thread(target=pump, args=(server, client), daemon=True).start()
    pump(client, server)


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
