"""What the gallery holds, how the server is, and the page itself."""

import dataclasses
import os
from typing import Any

from cada_jax.gallery.server import answers
from cada_jax.gallery.server.http import HEALTH
from cada_jax.gallery.server.services import Services, static_folder


def add_state_routes(app: Any, services: Services) -> None:
    """Adds /api/gallery, /healthz and /metrics to a FastAPI application."""
    import fastapi
    from fastapi.responses import JSONResponse

    @app.get("/api/gallery", summary="What the gallery holds")
    def gallery() -> dict[str, Any]:
        return services.gallery.summary()

    @app.get(
        HEALTH,
        summary="Whether the server takes queries; needs no token",
        response_model=answers.Health,
        responses={503: {"model": answers.Health, "description": "not ready, or stopping"}},
    )
    async def healthz() -> fastapi.Response:
        state = services.health()
        size, depth = len(services.gallery), services.queue.depth
        health = answers.Health(state == "ready", state, size, depth)
        status = 200 if health.ready else 503
        return JSONResponse(dataclasses.asdict(health), status, {"Cache-Control": "no-store"})

    @app.get(
        "/metrics",
        summary="Counters in Prometheus' format",
        response_class=fastapi.Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def metrics() -> fastapi.Response:
        return fastapi.Response(services.metrics.text(), media_type=services.metrics.content_type)


def add_page(app: Any) -> None:
    """Adds the page and its files."""
    import fastapi
    from fastapi.responses import FileResponse
    from starlette.staticfiles import StaticFiles

    @app.get("/", include_in_schema=False)
    async def page() -> fastapi.Response:
        path = os.path.join(static_folder(), "index.html")
        return FileResponse(path, headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=static_folder()), name="static")
