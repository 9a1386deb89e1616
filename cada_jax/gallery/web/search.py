"""GET and POST /api/search: FastAPI's parameter models, made of Query and Filter."""

import threading
import time
from collections.abc import Callable
from typing import Annotated, Any

import fastapi
import numpy as np
import pydantic
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import Field
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from cada_jax.common.images import PictureError, TooManyPixelsError, open_picture, rgb_pixels
from cada_jax.gallery.web.services import Served, Services, refusing
from cada_jax.retrieval import good_match, searchable
from cada_jax.retrieval.filter import GROUPS, Filter, NoFolderError
from cada_jax.retrieval.images import pixels_of
from cada_jax.retrieval.query import Query
from cada_jax.retrieval.query_scores import Hit

MOST_TEXT = 2000  # characters of one description
MOST_PHRASINGS = 8
MOST_RESULTS = 1000  # of one answer, and pictures that are re-ranked for it
MOST_NAME = 4096  # characters of a folder, a camera, an id
FORM_LIMITS = {"max_files": 1, "max_fields": 64, "max_part_size": 4 * MOST_NAME}
NO_STORE = {"Cache-Control": "no-store"}
# Decoded pictures are large: 50 megapixels are 150 MB.
DECODERS = threading.BoundedSemaphore(4)

Text = Annotated[str, Field(max_length=MOST_TEXT)]
_TEXTS: Any = Field(default_factory=list, max_length=MOST_PHRASINGS)


class _Asked(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    q: Annotated[list[Text], Field(description="a description; repeat for phrasings")] = _TEXTS
    exclude: Annotated[list[Text], Field(alias="not", description="words that count against")] = (
        _TEXTS
    )
    like: str = Field("", max_length=MOST_NAME, description="id of a picture to resemble")
    k: int = Field(10, ge=1, le=MOST_RESULTS, description="number of results")
    offset: int = Field(0, ge=0, description="so many of the best are left out before them")
    rerank: int = Field(
        32, ge=0, le=MOST_RESULTS, description="so many of the nearest pictures are re-ranked"
    )
    group: str = Field("", description=f"one result for each {', '.join(GROUPS)}")
    min_score: float | None = Field(
        None, allow_inf_nan=False, description="results that score less are left out"
    )


_FILTERS: dict[str, Any] = {
    field.name: (str, Field("", max_length=MOST_NAME, description=field.help))
    for field in Filter.fields()
}
Fields: Any = pydantic.create_model("Fields", __base__=_Asked, **_FILTERS)


class Form(Fields):
    """The fields of a search, and the picture to resemble."""

    image: fastapi.UploadFile | None = None


PICTURE = searchable.Picture("0" * 32, "/photos/a.jpg", box=(640.0, 200.0, 80.0, 240.0))
_HIT = Hit(PICTURE, similarity=0.31, match_logit=2.5, score=2.81, good_match=True).to_dict()
_ANSWER = {"query": Query("a red coat").to_dict(), "notice": "", "seconds": 0.02}
_ANSWER |= {"gallery_size": 1200, "results": [_HIT]}


def described(example: dict[str, Any]) -> dict[int | str, Any]:
    """The answer of a route for /openapi.json, by an example."""
    return {200: {"content": {"application/json": {"example": example}}}}


class _WholeForm(APIRoute):
    """Refuses a form that ends before its last boundary: a part of it is no smaller question."""

    def get_route_handler(self) -> Callable:
        handle = super().get_route_handler()

        async def handler(request: fastapi.Request) -> fastapi.Response:
            return await handle(fastapi.Request(request.scope, _whole(request)))

        return handler


def _whole(request: fastapi.Request) -> Callable:
    kind, options = parse_options_header(request.headers.get("content-type"))
    end = b"--" + options.get(b"boundary", b"") + b"--"
    tail = b""

    async def receive() -> Any:
        nonlocal tail
        message = await request.receive()
        tail = (tail + message.get("body", b""))[-1024:]
        ends = message["type"] == "http.request" and not message.get("more_body", False)
        if ends and kind == b"multipart/form-data" and end not in tail:
            raise HTTPException(400, "the form ends before its last boundary: send it again")
        return message

    return receive


router = fastapi.APIRouter(route_class=_WholeForm)


@router.get("/api/search", responses=described(_ANSWER))
async def search(
    request: fastapi.Request, services: Served, fields: Annotated[Fields, fastapi.Query()]
) -> fastapi.Response:
    """Pictures that words describe, or that resemble a picture of the gallery, best first.

    `query` is what was understood; `notice` says what was not, "" for nothing. `box` is x, y,
    width, height in pixels of the upright scene, null for the whole picture. `similarity` is a
    cosine; `match_logit` is the decoder's score, null where it was not asked. Results are ranked by
    `score`, and `min_score` is compared with it. `others` counts pictures of the same group.
    `good_match` is false below the line that was measured for the model, null without one.
    """
    return await _answer(services, request, fields, None)


@router.post("/api/search", responses=described(_ANSWER))
async def search_by_picture(
    request: fastapi.Request,
    services: Served,
    fields: Annotated[Form, fastapi.Form(media_type="multipart/form-data")],
) -> fastapi.Response:
    """The same, with a picture that the results resemble."""
    pixels = None
    if fields.image is not None:
        pixels = await run_in_threadpool(_decoded, services, await fields.image.read())
    return await _answer(services, request, fields, pixels)


async def _answer(
    services: Services, request: fastapi.Request, fields: Any, image: np.ndarray | None
) -> fastapi.Response:
    start = time.monotonic()
    with refusing(422):
        query = Query(
            texts=fields.q,
            exclude=fields.exclude,
            like=image,
            like_id=fields.like,
            filter=Filter.read(fields.model_dump(include=set(_FILTERS))),
            k=fields.k,
            offset=fields.offset,
            rerank=fields.rerank,
            group=fields.group,
            min_score=fields.min_score,
        )
    read = [services.device.understood(text) for text in (*query.texts, *query.exclude)]
    notice = "; ".join(dict.fromkeys(note for each in read for note in each.notes()))
    if not all(each.says_something for each in read):
        raise HTTPException(422, f"the model knows no word of a description: {notice}")
    if query.like_id:
        with refusing(404):
            await run_in_threadpool(services.gallery.picture, query.like_id)
    size = len(services.gallery)
    try:
        found = await services.computed(request, query) if size else []
        hits = [hit.to_dict() for hit in found]
        notice = "; ".join(filter(None, (notice, good_match.notice(found))))
    except NoFolderError as error:
        hits, notice = [], str(error)
    asked = query.to_dict()
    if services.flags.audit:
        ids = [hit["id"] for hit in hits]
        await run_in_threadpool(services.audit, request, "search", query=asked, ids=ids)
    seconds = round(time.monotonic() - start, 4)
    content = {"query": asked, "notice": notice, "seconds": seconds, "gallery_size": size}
    return JSONResponse(content | {"results": hits}, headers=NO_STORE)


def _decoded(services: Services, data: bytes) -> np.ndarray:
    """An uploaded picture as the network reads it, uint8 [height, width, 3].

    Raises:
      HTTPException: 413, too many pixels, said before they are decoded; 415, it is no picture.
    """
    most = round(services.flags.max_upload_megapixels * 1e6)
    try:
        with DECODERS, open_picture(data) as image:
            width, height = image.size
            if width * height > most:
                raise TooManyPixelsError(f"{width} x {height} pixels", most)
            return pixels_of(rgb_pixels(image), services.device.image_size)
    except PictureError as error:
        status = 413 if isinstance(error, TooManyPixelsError) else 415
        raise HTTPException(status, f"image: the picture {error}") from None
