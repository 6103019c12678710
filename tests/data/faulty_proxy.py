"""An HTTP proxy before a server of this machine that fails, is slow or holds requests back, as the seed says."""

import contextlib
import http.client
import random
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERRORS = {500: "InternalError", 503: "SlowDown"}
OWN_HEADERS = ("connection", "transfer-encoding", "content-length", "expect", "keep-alive")  # of one connection each


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def forward(self):
        server, body = self.server, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault, delay_s = server.drawn()
        if server.hold(self.command, self.path):
            server.held.append(self.path)
            server.released.wait()
        time.sleep(delay_s)
        if fault == "reset":
            self.hang_up()
        elif fault in ERRORS:
            self.refuse(fault)
        else:
            answer = self.passed_on(body)
            if fault == "reset after":  # the server has done it, and nobody hears
                self.hang_up()
            else:
                self.reply(*answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

    def passed_on(self, body):
        """What the server answers: status, headers and body."""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN_HEADERS}
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=60)
        with contextlib.closing(connection):
            connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()

    def reply(self, status, headers, body):
        named = dict(headers)
        size = named.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in OWN_HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status):
        """Answer as S3 does when it can't."""
        text = f"<Error><Code>{ERRORS[status]}</Code><Message>Please try again</Message></Error>".encode()
        self.reply(status, [("Content-Type", "application/xml")], b"" if self.command == "HEAD" else text)

    def hang_up(self):
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.shutdown(socket.SHUT_RD)
        self.close_connection = True
        self.connection.close()


class Proxy(ThreadingHTTPServer):
    """``faults`` and ``num_slow`` count what was done to requests, ``held`` lists the paths that were held back."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream, fault_share, slow_share, seed, hold):
        super().__init__(("127.0.0.1", 0), Handler)
        host, _, port = upstream.rpartition("/")[2].partition(":")
        self.upstream, self.url = (host, int(port)), f"http://127.0.0.1:{self.server_address[1]}"
        self.fault_share, self.slow_share, self.hold = fault_share, slow_share, hold
        self.faults, self.num_requests, self.num_slow = [], 0, 0
        self.held, self.released = [], threading.Event()
        self._random, self._lock = random.Random(seed), threading.Lock()

    def drawn(self):
        """What becomes of the next request: its fault or an empty string, and by how many seconds it is late."""
        with self._lock:
            fault = self._random.random() < self.fault_share and self._random.choice([*ERRORS, "reset", "reset after"])
            delay_s = self._random.uniform(0.5, 1.0) if self._random.random() < self.slow_share else 0.0
            self.num_requests += 1
            self.num_slow += delay_s > 0
            self.faults += [fault] if fault else []
            return fault or "", delay_s

    def handle_error(self, request, client_address):
        pass  # the other side has gone, as one that was killed


@contextmanager
def faulty_proxy(upstream, fault_share=0.0, slow_share=0.0, seed=0, hold=lambda method, path: False):
    """A running proxy before ``upstream`` (``http://host:port``); what ``hold`` says of waits for ``released``."""
    proxy = Proxy(upstream, fault_share, slow_share, seed, hold)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.released.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()
