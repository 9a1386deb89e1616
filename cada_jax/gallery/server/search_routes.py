"""GET and POST /api/search."""

import asyncio
import dataclasses
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from cada_jax.gallery.server import answers
from cada_jax.gallery.server.engine import Found
from cada_jax.gallery.server.fields import MOST_FIELDS, checked, echo, field_model, gather, to_query
from cada_jax.gallery.server.http import ClientGoneError
from cada_jax.gallery.server.problems import bad_field, busy
from cada_jax.gallery.server.services import Services
from cada_jax.gallery.server.uploads import decode_upload, read_form
from cada_jax.retrieval.query import Query

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": answers.Error, "description": text}
    for status, text in {
        400: "a field is not what it has to be",
        401: "no token, or a wrong one",
        404: "`like` names no picture of this gallery",
        408: "the body did not come in time",
        413: "the body or the picture is too large",
        415: "the body is no form, or the file no picture",
        422: "a description has no word in it",
        429: "too much is asked at once",
        503: "the server is stopping, or too slow, or cannot write its audit log",
    }.items()
}


def add_search_routes(app: Any, services: Services) -> None:
    """Adds the routes to a FastAPI application."""
    import fastapi

    model = field_model(services.limits)
    parameters, form = _described(model)
    refusals = {s: r for s, r in REFUSALS.items() if s not in (408, 413, 415)}

    @app.get(
        "/api/search",
        summary="Pictures that words describe, or that resemble a picture",
        response_model=answers.SearchAnswer,
        responses=refusals,
        openapi_extra={"parameters": parameters},
    )
    async def search(request: fastapi.Request) -> fastapi.Response:
        start = time.monotonic()
        pairs = _pairs(request.scope["query_string"])
        query = to_query(checked(model, gather(pairs)))
        return await _answer(services, request, query, start)

    @app.post(
        "/api/search",
        summary="The same, with a picture that the results resemble",
        response_model=answers.SearchAnswer,
        responses=REFUSALS,
        openapi_extra={"requestBody": form},
    )
    async def search_by_picture(request: fastapi.Request) -> fastapi.Response:
        query = await _uploaded(services, request, model)
        return await _answer(services, request, query, time.monotonic())


def _pairs(query_string: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise bad_field("query", f"expected at most {MOST_FIELDS} fields, in ASCII") from None


async def _uploaded(services: Services, request: Any, model: type) -> Query:
    from starlette.requests import ClientDisconnect

    limits = services.limits
    if services.uploads.locked():
        raise busy(f"{limits.max_uploads} uploads are being read, try again in a second")
    async with services.uploads:
        try:
            form = await read_form(request.headers.get("content-type", ""), request.stream())
        except ClientDisconnect:
            raise ClientGoneError("the client hung up within its body") from None
        fields = checked(model, gather(form.fields))
        image = None
        if form.image is not None:
            with services.metrics.stage("decode"):
                image = await asyncio.to_thread(
                    decode_upload, form.image, limits.upload_pixels, services.options.image_size
                )
        return to_query(fields, image)


async def _answer(services: Services, request: Any, query: Query, start: float) -> Any:
    from fastapi.responses import JSONResponse

    if query.like_id:
        await asyncio.to_thread(services.picture, query.like_id)
    found: list[Found] = []
    if len(services.gallery):
        # The query is checked by now: what refuses is the gallery, whose database is gone.
        refused = HTTPStatus.SERVICE_UNAVAILABLE
        found = await services.outcome(query, request.receive, refused)
    answer = answers.SearchAnswer(
        query=echo(query),
        seconds=round(time.monotonic() - start, 4),
        gallery_size=len(services.gallery),
        results=[answers.result(f.picture, f.similarity, f.match_logit, f.score) for f in found],
    )
    content = dataclasses.asdict(answer)
    ids = [result.id for result in answer.results]
    await asyncio.to_thread(
        services.audit, request.scope, "search", query=content["query"], ids=ids
    )
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


def _described(model: Any) -> tuple[list[dict], dict]:
    """The fields as OpenAPI's parameters of an address, and as a form with a picture."""
    properties: dict[str, dict] = model.model_json_schema()["properties"]
    parameters = [
        {
            "name": name,
            "in": "query",
            "description": schema.get("description", ""),
            "schema": {k: v for k, v in schema.items() if k != "description"},
        }
        for name, schema in properties.items()
    ]
    image = {"type": "string", "format": "binary", "description": "the picture to resemble"}
    schema = {"type": "object", "properties": {"image": image, **properties}}
    return parameters, {"content": {"multipart/form-data": {"schema": schema}}}
