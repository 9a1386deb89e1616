"""The application: routes, and the layers around them."""

from http import HTTPStatus
from typing import Any

from cada_jax.gallery.server.docs_page import add_docs
from cada_jax.gallery.server.gate import Gate
from cada_jax.gallery.server.http import (
    Application,
    Receive,
    Scope,
    Send,
    problem_body,
    send_body,
)
from cada_jax.gallery.server.patience import Patience
from cada_jax.gallery.server.picture_routes import add_picture_routes
from cada_jax.gallery.server.problems import Problem
from cada_jax.gallery.server.search_routes import add_search_routes
from cada_jax.gallery.server.services import Services
from cada_jax.gallery.server.state_routes import add_page, add_state_routes
from cada_jax.gallery.server.watch import Watch

DESCRIPTION = (
    "Search pictures of persons in words. Every refusal is a JSON object with one sentence in "
    "`error`. Where the server has a token, send `Authorization: Bearer TOKEN`."
)


def build_app(services: Services) -> Application:
    """The whole server as an ASGI application."""
    options = services.options
    inner = build_routes(services)
    behind_gate = Patience(inner, options.limits)
    gate = Gate(
        behind_gate,
        services.state,
        options.tokens,
        options.limits,
        options.trust_proxy,
        options.hosts,
    )
    rooted = under_root_path(gate, options.root_path)
    return Watch(rooted, services.metrics, options.access_log, options.trust_proxy)


def under_root_path(app: Application, root: str) -> Application:
    """The application below a root path, whether the proxy in front cuts that off or hands it on.

    Args:
      app: sees paths that begin with the root path, and that one in its scope.
      root: "" or "/people"; without a slash behind it, it leads to the page, whose addresses are
        relative.
    """
    if not root:
        return app

    async def rooted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["path"] == root:
                query = scope["query_string"].decode("latin-1")
                address = f"{root}/" + (f"?{query}" if query else "")
                headers = {"location": address}
                await send_body(send, HTTPStatus.PERMANENT_REDIRECT, b"", "text/plain", headers)
                return
            scope["root_path"] = root
            if not scope["path"].startswith(root + "/"):
                scope["path"] = root + scope["path"]
        await app(scope, receive, send)

    return rooted


def build_routes(services: Services) -> Any:
    """The FastAPI application without the layers; its `openapi()` describes the API."""
    import fastapi

    app = fastapi.FastAPI(
        title="cada_jax gallery",
        description=DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_refusals(app)
    add_search_routes(app, services)
    add_picture_routes(app, services)
    add_state_routes(app, services)
    add_docs(app)
    add_page(app)
    return app


def _add_refusals(app: Any) -> None:
    import fastapi
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    def answer(problem: Problem) -> fastapi.Response:
        return fastapi.Response(
            problem_body(problem), problem.status, problem.headers, "application/json"
        )

    @app.exception_handler(Problem)
    async def refused(request: fastapi.Request, problem: Problem) -> fastapi.Response:
        return answer(problem)

    @app.exception_handler(HTTPException)
    async def unknown(request: fastapi.Request, error: HTTPException) -> fastapi.Response:
        path = request.url.path[:100]
        texts = {
            HTTPStatus.NOT_FOUND: f"there is nothing at {path}; /docs lists what there is",
            HTTPStatus.METHOD_NOT_ALLOWED: f"{path} takes no {request.method[:20]}",
        }
        text = texts.get(HTTPStatus(error.status_code), str(error.detail))
        return answer(Problem(error.status_code, text, error.headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: fastapi.Request, error: RequestValidationError) -> fastapi.Response:
        first = error.errors()[0]
        message = first["msg"][:1].lower() + first["msg"][1:]
        return answer(Problem(400, f"{first['loc'][-1]}: {message}, got {first['input']!r:.60}"))

    @app.exception_handler(Exception)
    async def failed(request: fastapi.Request, error: Exception) -> fastapi.Response:
        return answer(Problem(500, "the server failed; see its log"))
