"""Who may ask: tokens, cookies, and where a request comes from.

Without a token only names of this machine's loopback are answered (a foreign name that resolves to it is DNS rebinding). Changes need a
request of the page itself: same origin, and the secret that only the page holds. All secrets are compared in constant time.
"""

import secrets
from dataclasses import dataclass, field
from email.message import Message
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from firn.dashboard.places import RequestError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def _secret() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Gate:
    """token: asked for once, None where the loopback suffices; the cookie's value and the page's secret live as long as the process."""

    token: str | None = None
    cookie: str = field(default_factory=_secret)
    page_secret: str = field(default_factory=_secret)

    def check_host(self, headers: Message) -> None:
        """RequestError (403) when no token guards and the request names another host than this machine's loopback."""
        if self.token is None and _host_name(headers.get("Host", "")) not in LOOPBACK:
            raise RequestError(403, "This dashboard answers to localhost only.")

    def is_open(self, headers: Message, cookie_name: str) -> bool:
        """Whether the request may be answered: no token is asked for, or it carries the cookie or the token in a header."""
        if self.token is None:
            return True
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        return same(_cookie(headers, cookie_name), self.cookie) or (scheme == "Bearer" and same(given, self.token))

    def check_change(self, headers: Message) -> None:
        """RequestError (403) unless a page of this very server asks for the change."""
        origin, host = urlsplit(headers.get("Origin", "")), headers.get("Host", "")
        if origin.scheme not in ("http", "https") or not host or origin.netloc.lower() != host.lower():
            raise RequestError(403, "Changes are taken from the dashboard's own pages only.")
        if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise RequestError(403, "Changes are taken from the dashboard's own pages only.")
        if not same(headers.get("X-Firn-Page", ""), self.page_secret):
            raise RequestError(403, "The dashboard was started anew; read the page again.")


def same(given: str, secret: str) -> bool:
    """Compare in constant time."""
    return secrets.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _cookie(headers: Message, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("Cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""
