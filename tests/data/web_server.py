"""A web server on this machine whose paths behave well or badly; and a resolver that says what a test wants."""

import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiohttp.abc import AbstractResolver

from geo_ray.data.fetch.policy import FetchPolicy

IMAGE = b"\xff\xd8 an image " * 50


def policy(**settings):
    """Local servers allowed, and no wait that a test would notice."""
    return FetchPolicy(**({"allow_private": True, "ports": None, "backoff_s": 0.01, "timeout_s": 10.0} | settings))


class Names(AbstractResolver):
    """A name server: each name has answers that are given in turn, the last for ever."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked = Counter()

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked[host] += 1
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        left = self.answers[host]
        found = left.pop(0) if len(left) > 1 else left[0]
        return [
            {"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for address in found.split()
        ]

    async def close(self):
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        with server.lock:
            server.seen.append((self.path, dict(self.headers), time.monotonic()))
            server.active += 1
            server.most_active = max(server.most_active, server.active)
        try:
            server.pages[self.path.strip("/").split("?")[0]](self)
        except ConnectionError:
            self.close_connection = True
        finally:
            with server.lock:
                server.active -= 1

    def reply(self, status=200, body=IMAGE, **headers):
        """An answer; ``Content_Length`` and others override."""
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self):
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()
        self.close_connection = True
        raise ConnectionResetError

    def drip(self, piece, seconds):
        """Write a piece over and over until the time is over or the other side has gone."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.wfile.write(piece)
            self.wfile.flush()
            time.sleep(0.02)
        self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pages, tls, host):
        super().__init__((host, 0), Handler)
        self.pages, self.seen, self.lock, self.active, self.most_active = pages, [], threading.Lock(), 0, 0
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.port = self.server_address[1]
        self.url = f"http://{host}:{self.port}"

    def handle_error(self, request, client_address):
        pass  # the other side gave up, as it should

    def paths(self):
        return [path for path, _, _ in self.seen]


@contextmanager
def serving(pages, tls=None, host="127.0.0.1"):
    """A running server; ``pages`` maps a path to what it does with a ``Handler``."""
    server = Server(pages, tls, host)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
