"""Who comes in: host, origin, token, and how many at once. A layer around the application."""

import html
import ipaddress
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode, urlsplit

from cada_jax.gallery.server.http import (
    HEALTH,
    Application,
    Receive,
    Scope,
    Send,
    State,
    headers_of,
    is_https,
    route_path,
    send_body,
)
from cada_jax.gallery.server.limits import Limits
from cada_jax.gallery.server.problems import Problem, bad_field, busy, unavailable
from cada_jax.gallery.server.tokens import COOKIE, Tokens

HOLDER = "cada_holder"  # key of the scope: name of the token that opened the server
# The page and its files tell nothing of the gallery; the page asks for the token itself.
PAGE_FILES = "/static/"
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Gate:
    """Refuses a request before the application sees it.

    Args:
      app: what is behind the gate.
      state: of the server.
      tokens: one of them is needed, if there are any. Without tokens the server listens on this
        machine only, and what a web page of another origin could make a browser ask is refused by
        the names in `Host` and `Origin`.
      limits: how many requests at once.
      trust_proxy: believe X-Forwarded-Proto.
      hosts: names in `Host` that are accepted besides those of this machine.
    """

    def __init__(
        self,
        app: Application,
        state: State,
        tokens: Tokens,
        limits: Limits,
        trust_proxy: bool = False,
        hosts: Sequence[str] = (),
    ):
        self._app = app
        self._state = state
        self._tokens = tokens
        self._limits = limits
        self._trust_proxy = trust_proxy
        self._hosts = {*_LOCAL_NAMES, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or hands on to the application; raises Problem before anything is sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _check_utf8(scope)
        if not self._tokens:
            self._check_names(scope)
        path = route_path(scope)
        if path == HEALTH:
            await self._app(scope, receive, send)
            return
        if self._state.stopping:
            problem = unavailable("the server is stopping and takes no new requests")
            raise Problem(
                problem.status, problem.message, {**problem.headers, "Connection": "close"}
            )
        if self._tokens and not await self._enter(scope, path, send):
            return
        if self._state.active >= self._limits.max_concurrent:
            raise busy(f"{self._state.active} requests are being answered, try again in a second")
        self._state.active += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._state.active -= 1

    def _check_names(self, scope: Scope) -> None:
        headers = headers_of(scope)
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"the request is for the host {host[:60]!r}, expected localhost: another name for "
                "this machine needs --allowed_host or a token",
            )
        origin = headers.get("origin")
        if scope["method"] in ("GET", "HEAD") or origin is None:
            return
        if urlsplit(origin).netloc.lower() != host.lower():
            raise Problem(
                HTTPStatus.FORBIDDEN,
                f"the request was sent by a page of {origin[:60]!r}, expected one of this server",
            )

    async def _enter(self, scope: Scope, path: str, send: Send) -> bool:
        """Whether a right token came; a browser that brings one in the address gets a cookie."""
        holder = self._tokens.holder(headers_of(scope))
        if path == "/" and scope["method"] == "GET":
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            given = next((value for name, value in query if name == "token"), None)
            if given is not None and self._tokens.name_of(given):
                kept = [(key, value) for key, value in query if key != "token"]
                await self._welcome(scope, given, kept, send)
                return False
            if given is not None:
                await send_body(send, HTTPStatus.UNAUTHORIZED, _DOOR, "text/html", _ASK)
                return False
        if holder is None and not (path == "/" or path.startswith(PAGE_FILES)):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "this server needs its token: send `Authorization: Bearer TOKEN`, or open the page "
                "once as /?token=TOKEN",
                _ASK,
            )
        scope[HOLDER] = holder or ""
        return True

    async def _welcome(self, scope: Scope, secret: str, query: list, send: Send) -> None:
        # A page that leads on, not a redirect: a browser that follows a link of another site here
        # keeps a SameSite=Strict cookie back until a page of ours asks for something.
        address = "./" + (f"?{urlencode(query)}" if query else "")
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Gallery</title>'
            f'<meta http-equiv="refresh" content="0;url={html.escape(address)}"></head>'
            f'<body><a href="{html.escape(address)}">Go on to the gallery</a></body></html>'
        )
        root = scope.get("root_path", "") or "/"
        secure = "; Secure" if is_https(scope, self._trust_proxy) else ""
        cookie = (
            f"{COOKIE}={self._tokens.cookie_of(secret)}; HttpOnly; SameSite=Strict; Path={root}"
            f"{secure}"
        )
        headers = {"set-cookie": cookie, "cache-control": "no-store"}
        await send_body(send, HTTPStatus.OK, page.encode(), "text/html; charset=utf-8", headers)


_ASK = {"WWW-Authenticate": "Bearer"}
_DOOR = (
    b'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Wrong token</title></head>'
    b"<body><h1>This is not the token of this gallery</h1><p>Check it and open the address again. "
    b"Who runs the server gives the token out.</p></body></html>"
)


def _name(host: str) -> str:
    """The name in a Host header without its port; "" for none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _check_utf8(scope: Scope) -> None:
    parts = {"address": scope.get("raw_path") or b"", "query": scope["query_string"]}
    for name, part in parts.items():
        try:
            unquote_to_bytes(part).decode("utf-8")
        except UnicodeDecodeError:
            raise bad_field(name, "is not UTF-8, expected percent-encoded UTF-8") from None
