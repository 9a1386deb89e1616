"""/api/pictures/ID: the record, the small picture, the scene, where words look, what is read off.

A picture is asked for by its id, so its path comes from the index alone. A file that is gone, or
that is another one by now, is answered with 410: what was indexed can no longer be shown.
"""

import hashlib
from typing import Annotated, Any

import fastapi
import numpy as np
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from cada_jax.gallery.photo import crop_of, scene_of
from cada_jax.gallery.thumbnails import jpeg
from cada_jax.gallery.web.search import NO_STORE, PICTURE, Text, described
from cada_jax.gallery.web.services import Served, refusing
from cada_jax.retrieval import searchable

SHOWN = (1600, 1600)  # most width and height of a whole scene in pixels
# Pictures of persons: no shared cache keeps them, and a browser asks again after five minutes.
CACHE = {"Cache-Control": "private, max-age=300"}

router = fastapi.APIRouter(prefix="/api/pictures/{id}")
_JPEG: Any = {
    "response_class": fastapi.Response,
    "responses": {200: {"content": {"image/jpeg": {}}, "description": "a JPEG file"}},
}


def _asked(services: Served, id: str) -> searchable.Picture:
    with refusing(404):
        return services.gallery.picture(id)


Asked = Annotated[searchable.Picture, fastapi.Depends(_asked)]


def _pixels(picture: Asked) -> np.ndarray:
    return crop_of(picture)


Pixels = Annotated[np.ndarray, fastapi.Depends(_pixels)]


@router.get("", responses=described(PICTURE.to_dict()))
def record(request: fastapi.Request, services: Served, picture: Asked) -> fastapi.Response:
    """What the index knows of a picture."""
    services.audit(request, "record", ids=[picture.id])
    return JSONResponse(picture.to_dict(), headers=NO_STORE)


@router.get("/thumbnail", **_JPEG)
def thumbnail(request: fastapi.Request, services: Served, picture: Asked) -> fastapi.Response:
    """The person, at most 320 pixels high."""
    services.audit(request, "thumbnail", ids=[picture.id])
    return _file(request, services.gallery.thumbnail(picture))


@router.get("/image", **_JPEG)
def image(request: fastapi.Request, services: Served, picture: Asked) -> fastapi.Response:
    """The upright scene, at most 1600 pixels wide and high."""
    services.audit(request, "image", ids=[picture.id])
    return _file(request, jpeg(scene_of(picture), SHOWN))


def _file(request: fastapi.Request, data: bytes) -> fastapi.Response:
    headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"', **CACHE}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return fastapi.Response(status_code=304, headers=headers)
    return fastapi.Response(data, headers=headers, media_type="image/jpeg")


Number = Annotated[int | None, fastapi.Query(ge=0)]


@router.get("/association")
async def association(
    request: fastapi.Request,
    services: Served,
    pixels: Pixels,
    id: str,
    q: Annotated[Text, fastapi.Query(description="a description")],
    layer: Number = None,
    head: Number = None,
) -> fastapi.Response:
    """Where in the picture each word of a description looks.

    `grid` is the rows and columns of patches. Each of `tokens` has its `word`; its `map`, the
    weight of every patch; its `gate` in (0, 2), how far the word lets its patches in, and `gates`,
    the same for each layer; both are null without gates. `layer` and `head` choose one; without
    them the map is the mean.
    """
    work = lambda: services.device.associate(pixels, q, layer, head)  # noqa: E731
    with refusing(422):
        answer = await services.computed(request, work)
    await run_in_threadpool(services.audit, request, "association", ids=[id], q=q)
    return JSONResponse(answer, headers=NO_STORE)


@router.get("/attributes")
async def attributes(
    request: fastapi.Request, services: Served, pixels: Pixels, id: str
) -> fastapi.Response:
    """What the decoder reads off a picture: `readings`, of each `part` the `words` it may be.

    The status is 501 for a model that was trained without the attribute decoder's loss.
    """
    with refusing(501):
        answer = await services.computed(request, lambda: services.device.read(pixels))
    await run_in_threadpool(services.audit, request, "attributes", ids=[id])
    return JSONResponse(answer, headers=NO_STORE)
