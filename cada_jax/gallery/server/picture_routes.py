"""/api/pictures/ID: the record, the thumbnail, the scene, the association and the attributes."""

import dataclasses
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any

from cada_jax.gallery.server import answers, pictures
from cada_jax.gallery.server.fields import checked_text
from cada_jax.gallery.server.search_routes import REFUSALS
from cada_jax.gallery.server.services import Services
from cada_jax.retrieval.searchable import Picture

# Pictures of persons: no shared cache keeps them, and a browser asks again after five minutes.
CACHE = "private, max-age=300"
_GONE = {"model": answers.Error, "description": "the file changed or vanished after indexing"}
_UNKNOWN = {"model": answers.Error, "description": "no picture has this id"}
_UNTRAINED = {"model": answers.Error, "description": "this model cannot read attributes"}
_REFUSED = {401: REFUSALS[401], 404: _UNKNOWN, 429: REFUSALS[429], 503: REFUSALS[503]}
_FILE = {**_REFUSED, 410: _GONE}
_JPEG = {200: {"content": {"image/jpeg": {}}, "description": "a JPEG file"}}


def add_picture_routes(app: Any, services: Services) -> None:
    """Adds the routes to a FastAPI application."""
    import fastapi
    from fastapi.responses import JSONResponse

    @app.get(
        "/api/pictures/{id}",
        summary="What the index knows of a picture",
        response_model=answers.Record,
        responses=_REFUSED,
    )
    def record(request: fastapi.Request, id: str) -> fastapi.Response:
        picture = services.picture(id)
        services.audit(request.scope, "record", ids=[picture.id])
        return JSONResponse(dataclasses.asdict(answers.record(picture)), headers=_no_store())

    @app.get(
        "/api/pictures/{id}/thumbnail",
        summary="The person, at most 320 pixels high",
        response_class=fastapi.Response,
        responses={**_JPEG, **_FILE},
    )
    def thumbnail(request: fastapi.Request, id: str) -> fastapi.Response:
        picture = services.picture(id)
        return _file(request, picture, "thumbnail", lambda: services.thumbnails.read(picture))

    @app.get(
        "/api/pictures/{id}/image",
        summary="The upright scene, at most 1600 pixels wide and high",
        response_class=fastapi.Response,
        responses={**_JPEG, **_FILE},
    )
    def image(request: fastapi.Request, id: str) -> fastapi.Response:
        picture = services.picture(id)
        services.audit(request.scope, "image", ids=[picture.id])
        return _file(
            request,
            picture,
            "image",
            lambda: pictures.jpeg(pictures.scene_of(picture), pictures.SHOWN),
        )

    _add_explanations(app, services)


def _add_explanations(app: Any, services: Services) -> None:
    import fastapi
    from fastapi.responses import JSONResponse
    from starlette.concurrency import run_in_threadpool

    refusals = {**_FILE, 400: REFUSALS[400], 422: REFUSALS[422]}
    number = Annotated[int | None, fastapi.Query(ge=0)]

    async def explained(
        request: Any, id: str, event: str, compute: Callable, refused: int, **what: Any
    ) -> Any:
        picture = await run_in_threadpool(services.picture, id)
        pixels = await run_in_threadpool(pictures.crop_of, picture)
        answer = await services.outcome(lambda: compute(pixels), request.receive, refused)
        await run_in_threadpool(
            lambda: services.audit(request.scope, event, ids=[picture.id], **what)
        )
        return JSONResponse(answer, headers=_no_store())

    @app.get(
        "/api/pictures/{id}/association",
        summary="Where in the picture each word of a description looks",
        response_model=answers.AssociationAnswer,
        responses=refusals,
    )
    async def association(
        request: fastapi.Request, id: str, q: str, layer: number = None, head: number = None
    ) -> fastapi.Response:
        text = checked_text("q", q, services.limits)

        def compute(pixels):
            return services.device.associate(pixels, text, layer, head)

        return await explained(request, id, "association", compute, HTTPStatus.BAD_REQUEST, q=text)

    @app.get(
        "/api/pictures/{id}/attributes",
        summary="What the decoder reads off a picture",
        response_model=answers.AttributesAnswer,
        responses={**_FILE, 501: _UNTRAINED},
    )
    async def attributes(request: fastapi.Request, id: str) -> fastapi.Response:
        # A model that was trained without the attribute decoder's loss reads nothing.
        refused = HTTPStatus.NOT_IMPLEMENTED
        return await explained(request, id, "attributes", services.device.read, refused)


def _no_store() -> dict[str, str]:
    return {"Cache-Control": "no-store"}


def _file(request: Any, picture: Picture, kind: str, make: Callable[[], bytes]) -> Any:
    import fastapi

    tag = pictures.etag(picture, kind)
    headers = {"ETag": tag, "Cache-Control": CACHE}
    if tag in request.headers.get("if-none-match", ""):
        pictures.check_current(picture)
        return fastapi.Response(status_code=304, headers=headers)
    return fastapi.Response(make(), headers=headers, media_type="image/jpeg")
