"""A small HTTP server: one request per connection, few at once, each with a deadline, strict headers on every answer.

HTTP/1.0 on purpose: no pipelining and no chunked bodies, so that a request ends where its Content-Length says.
"""

import gzip
import json
import socket
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from firn.dashboard.gate import Gate, same
from firn.dashboard.places import RequestError
from firn.errors import InputError

LONGEST_URL = 2000
LARGEST_BODY = 2**18
MOST_CONNECTIONS = 32
DEADLINE_S = 30.0
LONGEST_HEADER = 16_000
GZIP_FROM = 4000
HTML = "text/html; charset=utf-8"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"  # fmt: skip
SANDBOX = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"  # fmt: skip
"""For HTML that jobs wrote: it runs in an origin of its own, without cookies and without a way back."""
STRICT = {
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """path: decoded, without the leading slash; query: the last value of each name; body: of a POST, parsed."""

    path: str
    query: dict[str, str]
    body: Any = None


@dataclass(frozen=True)
class Answer:
    """What is sent back; `tag` stands for the content, so that a reader who has it is not sent it again."""

    body: bytes
    kind: str = "application/json"
    status: int = 200
    tag: str = ""
    headers: dict[str, str] = field(default_factory=dict)


Route = Callable[[Request], Answer]


def as_json(value: Any, status: int = 200) -> Answer:
    """An answer in JSON."""
    return Answer(json.dumps(value, separators=(",", ":"), allow_nan=False).encode(), status=status)


class Server(ThreadingHTTPServer):
    """reads, changes: what answers GET and POST; deadline_s: after which a connection is cut."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, gate: Gate, reads: Route, changes: Route, deadline_s: float = DEADLINE_S):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.gate, self.reads, self.changes, self.deadline_s = gate, reads, changes, deadline_s
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__((host, port), Handler)

    @property
    def port(self) -> int:
        """The port that was given or found free."""
        return int(self.server_address[1])

    def server_bind(self) -> None:
        """Bind without asking the network for this machine's name."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own; beyond MOST_CONNECTIONS the connection is closed at once."""
        with self._lock:
            full = len(self._open) >= MOST_CONNECTIONS
            if not full:
                self._open[request] = time.monotonic() + self.deadline_s
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut connections that are past their deadline, however little they send."""
        now = time.monotonic()
        with self._lock:
            for connection in [one for one, deadline in self._open.items() if deadline < now]:
                self._open.pop(connection)
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no fault."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            traceback.print_exc()


class Handler(BaseHTTPRequestHandler):
    """Checks a request, asks the server's routes, sends the answer with strict headers."""

    server: Server
    server_version, sys_version = "firn", ""

    def setup(self) -> None:
        """A connection that says nothing is given up."""
        super().setup()
        self.connection.settimeout(self.server.deadline_s)

    def do_GET(self) -> None:
        """Read something."""
        self._reply(self._read)

    def do_POST(self) -> None:
        """Decide something."""
        self._reply(self._change)

    def log_message(self, *_: Any) -> None:
        """Requests are not logged: their addresses may hold the token."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Faults of HTTP itself, with the same headers as every answer."""
        self._send(Answer(f"{message or explain or code}\n".encode("utf-8", "replace"), "text/plain; charset=utf-8", code))

    def _reply(self, act: Callable[[], Answer]) -> None:
        try:
            answer = act()
        except RequestError as refusal:
            answer = as_json({"error": str(refusal)}, refusal.status)
        except InputError as error:
            answer = as_json({"error": str(error)}, 400)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return
        except Exception:
            traceback.print_exc()
            answer = as_json({"error": "The dashboard made a mistake; its terminal tells more."}, 500)
        self._send(answer)

    def _read(self) -> Answer:
        request = self._request()
        if "token" in request.query:
            return self._let_in(request)
        self._check_open()
        return self.server.reads(request)

    def _change(self) -> Answer:
        request = self._request()
        self._check_open()
        self.server.gate.check_change(self.headers)
        return self.server.changes(Request(request.path, request.query, self._body()))

    def _request(self) -> Request:
        if len(self.path) > LONGEST_URL:
            raise RequestError(414, f"The address is longer than {LONGEST_URL} characters.")
        if sum(len(name) + len(value) for name, value in self.headers.items()) > LONGEST_HEADER:
            raise RequestError(431, f"The headers are longer than {LONGEST_HEADER} characters.")
        self.server.gate.check_host(self.headers)
        try:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=10))
        except ValueError as error:
            raise RequestError(400, "The address cannot be read.") from error
        if parts.scheme or parts.netloc or not parts.path.startswith("/"):
            raise RequestError(400, "The address cannot be read.")
        return Request(unquote(parts.path)[1:], query)

    def _check_open(self) -> None:
        if not self.server.gate.is_open(self.headers, self._cookie_name):
            raise RequestError(401, "Open the address with the token that the dashboard printed when it started.")

    def _let_in(self, request: Request) -> Answer:
        """Change the token for a cookie; the page reads on by itself, so that the token stays in no address bar and no referrer."""
        if self.server.gate.token is not None and not same(request.query["token"], self.server.gate.token):
            raise RequestError(401, "The token is wrong.")
        onward = (
            b'<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><title>firn</title><a href="/">Go on</a>'
        )
        cookie = f"{self._cookie_name}={self.server.gate.cookie}; HttpOnly; SameSite=Strict; Path=/"
        return Answer(onward, HTML, headers={"Set-Cookie": cookie})

    @property
    def _cookie_name(self) -> str:
        return f"firn_{self.server.port}"

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            raise RequestError(411, "A change needs a Content-Length.")
        if len(length) > 9 or int(length) > LARGEST_BODY:
            raise RequestError(413, f"A change is at most {LARGEST_BODY} bytes.")
        if self.headers.get_content_type() != "application/json":
            raise RequestError(415, "A change is JSON.")
        try:
            content = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise RequestError(400, "The change is not JSON.") from error
        if not isinstance(content, dict):
            raise RequestError(400, "The change is no JSON object.")
        return content

    def _send(self, answer: Answer) -> None:
        known = bool(answer.tag) and self.headers.get("If-None-Match") == f'"{answer.tag}"'
        body, headers = (b"", {}) if known else self._packed(answer)
        headers |= {"Content-Security-Policy": POLICY} | STRICT | answer.headers
        self.send_response(304 if known else answer.status)
        if not known:
            headers |= {"Content-Type": answer.kind, "Content-Length": str(len(body))}
        if answer.tag:
            headers["ETag"] = f'"{answer.tag}"'
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _packed(self, answer: Answer) -> tuple[bytes, dict[str, str]]:
        wants = "gzip" in getattr(self, "headers", {}).get("Accept-Encoding", "")
        if not wants or len(answer.body) < GZIP_FROM or answer.kind.startswith("image/"):
            return answer.body, {}
        return gzip.compress(answer.body, 1), {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
