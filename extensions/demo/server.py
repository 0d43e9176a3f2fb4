"""The page from this computer: the standard library's server, with the model in Python behind it.

    python -m gpt2 demo --weights runs/finetune-1a2b3c4d

It listens on localhost alone. A page of another site that a browser has open could still send it
requests: under its own name for this computer (DNS rebinding), which the Host header shows, or
from its own address, which the Origin header shows. Both are refused, as are long and frequent
requests. Errors are one sentence each, as plain text.
"""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from extensions.demo.page import make_page
from extensions.demo.replies import Replies, read_request

MAX_BODY = 65_536  # bytes of a request; two texts of replies.MAX_CHARACTERS have less
BURST, PER_SECOND = 60, 15.0  # requests at once, and in the long run
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Refused(Exception):
    """A request that gets no result: an HTTP status and a sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class DemoServer(ThreadingHTTPServer):
    """Serve the page of one model on localhost; `url` is its address."""

    daemon_threads = True

    def __init__(self, model, tokenizer, name: str, port: int = 8000):
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            raise OSError(f"port {port}: {error}; choose another with --port") from error
        replies = Replies(model, tokenizer, name)
        self.page = make_page(replies.info).encode()
        self.replies = {f"/{name}": getattr(replies, name) for name in ("analyze", "brief", "next")}
        self.model_lock, self.rate_lock = threading.Lock(), threading.Lock()
        self.allowed, self.counted = float(BURST), time.monotonic()

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://localhost:{self.server_port}"

    def check_rate(self) -> None:
        """Count a request; raise Refused where there were too many."""
        with self.rate_lock:
            now = time.monotonic()
            self.allowed = min(BURST, self.allowed + PER_SECOND * (now - self.counted))
            self.counted = now
            if self.allowed < 1:
                raise Refused(429, f"More than {PER_SECOND:.0f} requests a second: wait a moment.")
            self.allowed -= 1


class Handler(BaseHTTPRequestHandler):
    """Answer one request."""

    server: DemoServer
    timeout = 10  # seconds that a client may be silent

    def do_GET(self) -> None:
        """Send the page."""
        self._reply(self._page, "text/html")

    def do_POST(self) -> None:
        """Send what the model makes of a request, as JSON."""
        self._reply(self._result, "application/json")

    def _reply(self, make, kind: str) -> None:
        try:
            status, content = 200, make()
        except (Refused, ValueError) as error:
            status, kind = getattr(error, "status", 400), "text/plain"
            content = str(error).encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _page(self) -> bytes:
        self._check_sender()
        if self.path != "/":
            raise Refused(404, "There is one page here: /")
        return self.server.page

    def _result(self) -> bytes:
        body = self._body()  # read before it is refused, so that the client gets the sentence
        self._check_sender()
        self.server.check_rate()
        if self.path not in self.server.replies:
            raise Refused(404, f"The model is asked under {', '.join(self.server.replies)}.")
        request = read_request(body)
        with self.server.model_lock:
            return json.dumps(self.server.replies[self.path](request)).encode()

    def _check_sender(self) -> None:
        host, port = self.headers.get("Host", ""), self.server.server_port
        if host not in (f"localhost:{port}", f"127.0.0.1:{port}"):
            raise Refused(403, f"Only localhost:{port} is served, under no other host's name.")
        if self.headers.get("Origin", f"http://{host}") != f"http://{host}":
            raise Refused(403, "Only this server's own page may send requests.")

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            raise Refused(411, "A request needs a Content-Length.")
        body = self.rfile.read(min(int(length), 16 * MAX_BODY))
        if int(length) > MAX_BODY:
            raise Refused(413, f"The request has {length} bytes, but at most {MAX_BODY} are read.")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "A request must be application/json.")
        return body

    def log_message(self, *_) -> None:
        """Print no line for every request."""
