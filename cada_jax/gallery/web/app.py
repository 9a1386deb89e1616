"""The application: its layers, its handler of what goes wrong, the server's state, the page."""

import pathlib
from typing import Any

import fastapi
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from cada_jax.common.errors import UsageError
from cada_jax.gallery.photo import GoneError
from cada_jax.gallery.web import pictures, search
from cada_jax.gallery.web.auth import Guard, refusal, welcome
from cada_jax.gallery.web.services import Served, Services

STATIC = pathlib.Path(__file__).with_name("static")
DOCUMENTS = STATIC.parents[1]
DESCRIPTION = (
    "Search pictures of persons in words. Where the server has a token, send "
    "`Authorization: Bearer TOKEN`."
)

router = fastapi.APIRouter()


def build_app(services: Services) -> fastapi.FastAPI:
    """The whole server as an ASGI application."""
    flags = services.flags
    app = fastapi.FastAPI(
        title="cada_jax gallery",
        description=DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=services.running,
        responses={"default": {"description": "refused: one sentence in `error`"}},
        max_body_size=round(flags.max_upload_mb * 1e6),
        form_limits=search.FORM_LIMITS,
    )
    app.state.services = services
    for kind in (HTTPException, RequestValidationError, UsageError, Exception):
        app.add_exception_handler(kind, _refused)
    app.add_middleware(Guard, tokens=flags.tokens)
    if not flags.tokens:
        # A page of a name that leads here could read everything: its browser asks this server.
        hosts = ["localhost", "127.0.0.1", "[::1]", *flags.allowed_host]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    for part in (search.router, pictures.router, router):
        app.include_router(part)
    app.mount("/static", StaticFiles(directory=STATIC))
    Instrumentator().instrument(app).expose(app)
    return app


async def _refused(request: fastapi.Request, error: Exception) -> fastapi.Response:
    """The server's border: whatever is raised becomes {"error": one sentence} and a status."""
    if isinstance(error, HTTPException):
        return refusal(error.status_code, str(error.detail), error.headers)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        text = f"{first['loc'][-1]}: {first['msg']}, got {str(first['input'])[:60]!r}"
        return refusal(422, text)
    if isinstance(error, GoneError):
        return refusal(410, str(error))
    if isinstance(error, UsageError):  # the query was checked before: the gallery refuses
        return refusal(503, str(error), {"Retry-After": "5"})
    # uvicorn ends a connection whose application raised: a client that is not told would lose the
    # next request it sends on it.
    return refusal(500, "the server failed; see its log", {"Connection": "close"})


@router.get("/healthz")
def healthz(services: Served) -> fastapi.Response:
    """Whether the server takes queries, 200 or 503; needs no token.

    `state` is "ready"; "starting" until programs are compiled; "no audit log" while it cannot be
    written. `queue_depth` counts what waits for the device.
    """
    ready = services.state == "ready"
    content = {"ready": ready, "state": services.state, "gallery_size": len(services.gallery)}
    content["queue_depth"] = services.queue.depth
    return JSONResponse(content, 200 if ready else 503, search.NO_STORE)


@router.get("/api/gallery")
def gallery(services: Served) -> dict[str, Any]:
    """What the gallery holds, and in `note` what one has to know of its model, "" if nothing."""
    return services.gallery.summary() | {"note": services.device.note}


@router.get("/", include_in_schema=False)
async def page(request: fastapi.Request, services: Served) -> fastapi.Response:
    """The page; a token in its address becomes a cookie."""
    file = FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})
    return welcome(request, services.flags.tokens) or file


@router.get("/docs", include_in_schema=False)
async def docs() -> fastapi.Response:
    """How to use the API."""
    return FileResponse(DOCUMENTS / "SERVING.md", media_type="text/plain")


@router.get("/responsible", include_in_schema=False)
async def responsible() -> fastapi.Response:
    """What a result is and is not, and what to think of before one acts on it."""
    return FileResponse(DOCUMENTS / "RESPONSIBLE_USE.md", media_type="text/plain")
