"""The Hugging Face hub, played by a server of our own."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def hub(answer: Callable[[str], bytes | str]) -> Iterator[str]:
    """Yield the address of a server; `answer(path)` returns a file or the hub's error code."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            found = b"" if self.path == "/" else answer(self.path)
            status = {"GatedRepo": 401}.get(found, 404) if isinstance(found, str) else 200
            self.send_response(status)
            if isinstance(found, str):
                self.send_header("X-Error-Code", found)
                found = b""
            self.send_header("ETag", f'"{self.path}-{len(found)}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(found)

        do_GET = do_HEAD

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
