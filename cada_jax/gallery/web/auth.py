"""Who comes in: who holds a token, as a bearer or in a cookie, and no form of another site."""

import hashlib
import hmac
from collections.abc import Mapping

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cada_jax.common.errors import UsageError
from cada_jax.common.files import read_bytes

COOKIE = "cada_token"
VARIABLE = "CADA_TOKEN"
# They tell nothing of the pictures; the page asks for the token itself.
OPEN = ("/", "/healthz", "/docs", "/responsible", "/openapi.json")
PAGE_FILES = "/static/"
MOST_BYTES = 1 << 20  # of a file of tokens


class Tokens:
    """The secrets that open the server; none means that nobody needs one.

    Args:
      secrets: name -> secret. The name stands in the audit log.

    Raises:
      UsageError: a secret that no header can carry.
    """

    def __init__(self, secrets: Mapping[str, str]):
        for name, secret in secrets.items():
            if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
                raise UsageError(
                    f"the token {name!r} is empty or holds a blank or another character than "
                    "ASCII's: expected for instance what `openssl rand -hex 16` prints"
                )
        self._secrets = {name: secret.encode() for name, secret in secrets.items()}
        self._digests = {name: cookie_of(secret).encode() for name, secret in secrets.items()}

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def name_of(self, secret: str) -> str | None:
        """The name of a secret, None if it is none; a wrong one takes as long as a right one."""
        return _find(secret, self._secrets)

    def holder(self, request: HTTPConnection) -> str | None:
        """The name of the token that a request carries, None if it carries no right one."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.name_of(secret.strip())
        return _find(request.cookies.get(COOKIE, ""), self._digests)


def _find(given: str, known: Mapping[str, bytes]) -> str | None:
    # Every known one is compared, in a time that does not depend on where they differ.
    found = None
    for name, value in known.items():
        if hmac.compare_digest(given.encode(), value):
            found = name
    return found


def cookie_of(secret: str) -> str:
    """What the cookie holds: a digest, so that nobody reads the secret off a browser."""
    return hashlib.blake2b(secret.encode(), person=b"cada cookie", digest_size=32).hexdigest()


def read_tokens(token: str | None, file: str | None, environment: Mapping[str, str]) -> Tokens:
    """The tokens of the flags and of the environment.

    Args:
      token: of the flag, None without it; then the variable CADA_TOKEN is read.
      file: lines of a name, a blank and a secret; blank lines and those with # are skipped.
      environment: of the process.

    Raises:
      UsageError: a token or the file is not what it has to be.
    """
    token = environment.get(VARIABLE) or None if token is None else token
    secrets = {} if token is None else {"token": token}
    if not file:
        return Tokens(secrets)
    lines = read_bytes(file, "lines of NAME SECRET", MOST_BYTES).decode("utf-8", "replace")
    parts = [line.split() for line in lines.splitlines()]
    parts = [part for part in parts if part and not part[0].startswith("#")]
    names = [part[0] for part in parts]
    if not parts or any(len(part) != 2 for part in parts) or len(set(names)) < len(names):
        raise UsageError(f"{file}: expected lines of NAME SECRET, every name once")
    return Tokens(secrets | {name: secret for name, secret in parts})


def welcome(request: Request, tokens: Tokens) -> Response | None:
    """Takes a token out of the page's address into a cookie; None where the address holds none."""
    given = request.query_params.get("token")
    if given is None:
        return None
    if tokens.name_of(given) is None:
        return refusal(401, "this is not the token of this gallery: check it and try again")
    url = request.url.remove_query_params("token")
    answer = RedirectResponse(f"./?{url.query}" if url.query else "./", 303)
    path = request.scope.get("root_path", "") or "/"
    secure = request.url.scheme == "https"
    answer.set_cookie(
        COOKIE, cookie_of(given), path=path, secure=secure, httponly=True, samesite="strict"
    )
    return answer


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """What a client is told that is refused: {"error": one sentence}."""
    text = message.encode("utf-8", "replace").decode()
    return JSONResponse({"error": text}, status, headers)


class Guard:
    """A layer that refuses, before it reads a body, who has no token and what foreign pages send.

    The name of the token is `request.state.holder` behind it.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens):
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or hands on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # is answered as GET; the server sends no body
            scope = {**scope, "method": "GET"}
        request = HTTPConnection(scope)
        holder = self._tokens.holder(request)
        request.state.holder = holder or ""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        answer: ASGIApp = self._app
        if _is_foreign(request):
            answer = refusal(403, "a page of another site sent this, expected one of this server")
        elif self._tokens and not holder and path not in OPEN and not path.startswith(PAGE_FILES):
            answer = refusal(
                401,
                "this server needs its token: send `Authorization: Bearer TOKEN`, or open the "
                "page once as /?token=TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        await answer(scope, receive, send)


def _is_foreign(request: HTTPConnection) -> bool:
    """Whether a page of another origin makes a browser send more than it could read anyway."""
    origin = request.headers.get("origin")
    if request.scope["method"] in ("GET", "HEAD") or origin is None:
        return False
    return origin.partition("://")[2].lower() != request.headers.get("host", "").lower()
