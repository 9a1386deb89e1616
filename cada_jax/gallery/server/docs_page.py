"""/docs: the API's description as a page, made of /openapi.json alone; nothing comes from afar."""

import html
import json
from collections.abc import Sequence
from typing import Any

_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<title>{title}: API</title><link rel="stylesheet" href="static/docs.css"></head><body><main>'
)


def add_docs(app: Any) -> None:
    """Adds the page to a FastAPI application."""
    from fastapi.responses import HTMLResponse

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_html(app.openapi()))


def docs_html(api: dict[str, Any]) -> str:
    """An OpenAPI description as HTML."""
    info = api["info"]
    parts = [
        _HEAD.format(title=html.escape(info["title"])),
        f"<h1>{html.escape(info['title'])}</h1><p>{html.escape(info.get('description', ''))}</p>",
        '<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>',
    ]
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(path, method, operation))
    parts.append("<h2>Types</h2>")
    for name, schema in api.get("components", {}).get("schemas", {}).items():
        parts.append(_type(name, schema))
    return "".join([*parts, "</main></body></html>\n"])


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    name = html.escape(f"{method.upper()} {path}")
    text = f"<section><h2><code>{name}</code></h2><p>{html.escape(operation['summary'])}.</p>"
    rows = [
        (p["name"], p["schema"], p.get("description", ""), p["in"])
        for p in operation.get("parameters", [])
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        properties = content["schema"].get("properties", {})
        rows += [(n, s, s.get("description", ""), kind) for n, s in properties.items()]
    if rows:
        text += _table(
            "Fields",
            ("field", "type", "what it is", "in"),
            [
                (f"<code>{html.escape(n)}</code>", _kind(s), html.escape(d), html.escape(w))
                for n, s, d, w in rows
            ],
        )
    answers = [
        (html.escape(status), _answer(answer), html.escape(answer.get("description", "")))
        for status, answer in sorted(operation["responses"].items())
    ]
    return text + _table("Answers", ("status", "type", "when"), answers) + "</section>"


def _answer(answer: dict[str, Any]) -> str:
    kinds = []
    for kind, content in answer.get("content", {}).items():
        schema = content.get("schema")
        kinds.append(_kind(schema) if schema else html.escape(kind))
    return ", ".join(kinds)


def _type(name: str, schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", []))
    rows = [
        (
            f"<code>{html.escape(field)}</code>",
            _kind(kind),
            "always" if field in needed else "",
        )
        for field, kind in schema.get("properties", {}).items()
    ]
    text = "".join(f"<p>{html.escape(p)}</p>" for p in schema.get("description", "").split("\n\n"))
    anchor = html.escape(name)
    return (
        f'<section><h3 id="{anchor}"><code>{anchor}</code></h3>{text}'
        f"{_table('Fields', ('field', 'type', 'there'), rows)}</section>"
    )


def _kind(schema: dict[str, Any]) -> str:
    """The type of a schema in a few words, with its bounds and its default."""
    if "$ref" in schema:
        name = html.escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        text = f"list of {_kind(schema.get('items', {}))}"
    else:
        text = html.escape(schema.get("format") or schema.get("type") or "any")
    bounds = {
        "minimum": "at least",
        "maximum": "at most",
        "maxLength": "characters at most",
        "maxItems": "of them at most",
        "default": "default",
    }
    said = [
        f"{words} {html.escape(json.dumps(schema[key]))}"
        for key, words in bounds.items()
        if key in schema and schema[key] not in ("", None)
    ]
    return text + (f" ({', '.join(said)})" if said else "")


def _table(caption: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Cells are HTML."""
    if not rows:
        return ""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table><caption>'
        f"{caption}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
