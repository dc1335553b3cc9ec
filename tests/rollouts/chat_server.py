"""An OpenAI-compatible chat endpoint on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

Answer = Callable[[dict], tuple[int, object]]


def said(text: str | None, **usage: int) -> tuple[int, object]:
    """A good answer."""
    return 200, {"choices": [{"message": {"content": text}}], "usage": usage}


@contextmanager
def chat_server(answer: Answer, headers: Mapping[str, str] = MappingProxyType({})) -> Iterator[tuple[str, list[dict]]]:
    """A server that answers each request with a status and a body. Gives its address and the requests."""
    requests: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append({"path": self.path, "key": self.headers["Authorization"], **content})
            status, body = answer(content)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format, *args):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
