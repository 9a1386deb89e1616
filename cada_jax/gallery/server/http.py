"""Small parts of ASGI that the layers around the application share."""

import dataclasses
import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from cada_jax.gallery.server.problems import Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Asked by machines that watch the server: answered without a token, while it is busy, and while it
# stops.
HEALTH = "/healthz"


class ClientGoneError(Exception):
    """The client hung up, or takes nothing any more; nobody reads an answer."""


@dataclasses.dataclass
class State:
    """What the layers and the command know of the running server.

    Attributes:
      ready: programs are compiled.
      stopping: new requests are refused.
      active: requests that are being answered.
    """

    ready: bool = False
    stopping: bool = False
    active: int = 0


def headers_of(scope: Scope) -> dict[str, str]:
    """Headers by name in lower case; of several of one name the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def route_path(scope: Scope) -> str:
    """The path below the root path."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


def client_address(scope: Scope, trust_proxy: bool) -> str:
    """The client's address.

    Args:
      scope: of the request.
      trust_proxy: take what the proxy in front says: the last address of X-Forwarded-For, which it
        added itself. A client can write what it likes before that.
    """
    address = (scope.get("client") or ("",))[0]
    if not trust_proxy:
        return address
    forwarded = headers_of(scope).get("x-forwarded-for", "").split(",")[-1].strip()
    try:
        return str(ipaddress.ip_address(forwarded))
    except ValueError:
        return address


def is_https(scope: Scope, trust_proxy: bool) -> bool:
    """Whether the browser speaks TLS, with this server or with the proxy in front."""
    forwarded = headers_of(scope).get("x-forwarded-proto", "") if trust_proxy else ""
    return "https" in (scope.get("scheme"), forwarded.strip().lower())


async def send_body(
    send: Send, status: int, body: bytes, content_type: str, headers: Mapping[str, str]
) -> None:
    """Sends a whole answer."""
    values = {"content-type": content_type, "content-length": str(len(body)), **headers}
    raw = [(name.lower().encode("latin-1"), v.encode("latin-1")) for name, v in values.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def problem_body(problem: Problem) -> bytes:
    """The JSON that tells a problem."""
    text = problem.message.encode("utf-8", "replace").decode()
    return json.dumps({"error": text}, ensure_ascii=False).encode()


async def send_problem(send: Send, problem: Problem) -> None:
    """Sends the answer that tells a problem."""
    body = problem_body(problem)
    await send_body(send, problem.status, body, "application/json", problem.headers)
