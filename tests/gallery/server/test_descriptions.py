"""What the server tells of itself: OpenAPI, the page made of it, counters, the page."""

import html.parser
import re

import pytest

from tests.gallery.server.running import ListedGallery, running, stand_in, write_picture


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("described")
    pictures = [write_picture(folder / f"{i}.png") for i in range(3)]
    with running(ListedGallery(pictures), stand_in()) as server:
        yield server


@pytest.fixture(scope="module")
def api(server):
    return server.client.get("openapi.json").json()


def test_every_route_is_described_with_its_answers(api):
    assert set(api["paths"]) == {
        "/api/search",
        "/api/gallery",
        "/api/pictures/{id}",
        "/api/pictures/{id}/thumbnail",
        "/api/pictures/{id}/image",
        "/api/pictures/{id}/association",
        "/api/pictures/{id}/attributes",
        "/healthz",
        "/metrics",
    }
    for path, methods in api["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
            assert operation["responses"]["200"]["content"], path


def resolve(api: dict, schema: dict) -> dict:
    while "$ref" in schema:
        schema = api["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def check(api: dict, schema: dict, value, place: str) -> None:
    """Whether a value is of a schema, as far as this API's schemas go."""
    schema = resolve(api, schema)
    if "anyOf" in schema:
        fitting = [s for s in schema["anyOf"] if (s.get("type") == "null") == (value is None)]
        check(api, fitting[0], value, place)
        return
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "number": (int, float),
        "null": type(None),
    }
    kinds |= {"integer": int, "boolean": bool}
    assert isinstance(value, kinds[schema["type"]]), place
    if schema["type"] == "array":
        for item in value:
            check(api, schema["items"], item, f"{place}[]")
    if "properties" in schema:
        assert set(value) == set(schema["properties"]), place
        for name, part in schema["properties"].items():
            check(api, part, value[name], f"{place}.{name}")


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/api/search", "api/search?q=coat"),
        ("/api/search", "api/search?q="),
        ("/api/search", "api/search?like=1"),
        ("/api/pictures/{id}", "api/pictures/ID"),
        ("/api/pictures/{id}", "api/pictures/1"),
        ("/api/pictures/{id}/association", "api/pictures/ID/association?q=a+coat"),
        ("/api/pictures/{id}/attributes", "api/pictures/ID/attributes"),
        ("/healthz", "healthz"),
    ],
)
def test_answers_are_what_is_described(server, api, path, address):
    id = next(iter(server.services.gallery.pictures))
    answer = server.client.get(address.replace("ID", id))
    responses = api["paths"][path]["get"]["responses"]
    content = responses[str(answer.status_code)]["content"]
    check(api, content["application/json"]["schema"], answer.json(), path)


def test_the_fields_of_a_search_are_described_with_their_bounds(api):
    fields = {p["name"]: p["schema"] for p in api["paths"]["/api/search"]["get"]["parameters"]}
    assert fields["k"]["minimum"] == 1 and fields["k"]["maximum"] == 100
    assert fields["q"]["type"] == "array" and fields["q"]["maxItems"] == 8
    form = api["paths"]["/api/search"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert set(form["schema"]["properties"]) == {*fields, "image"}


class Addresses(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.tags, self.ids = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [value for name, value in attrs if name in ("href", "src")]
        self.ids |= {value for name, value in attrs if name == "id"}
        assert not any(name == "style" or name.startswith("on") for name, _ in attrs)


def test_the_documentation_is_a_page_that_needs_nothing_from_afar(server, api):
    page = server.client.get("docs")
    assert page.headers["content-type"].startswith("text/html")
    reader = Addresses()
    reader.feed(page.text)
    assert not {"script", "style"} & set(reader.tags)
    for address in reader.found:
        if address.startswith("#"):
            assert address[1:] in reader.ids
        else:
            assert not re.match(r"\w+:|/", address)
            assert server.client.get(address).status_code == 200, address
    for path in api["paths"]:
        assert path in page.text


def test_counters_count(server):
    before = server.client.get("metrics").text
    for address in ("api/search?q=coat", "api/search?q=", "api/pictures/1", "nothing/at/all"):
        server.client.get(address)
    text = server.client.get("metrics").text

    def value(text: str, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    for name in (
        'cada_requests_total{method="GET",route="/api/search",status="200"}',
        'cada_requests_total{method="GET",route="/api/search",status="422"}',
        'cada_requests_total{method="GET",route="/api/pictures/{id}",status="404"}',
        'cada_requests_total{method="GET",route="other",status="404"}',
        'cada_request_seconds_count{route="/api/search"}',
        'cada_stage_seconds_count{stage="search"}',
        'cada_stage_seconds_count{stage="wait"}',
        "cada_batch_size_count",
    ):
        assert value(text, name) >= value(before, name) + 1, name
    assert value(text, "cada_gallery_size") == 3
    assert value(text, "cada_queue_depth") == 0


def test_the_page_and_its_files_are_served(server):
    page = server.client.get("")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    reader = Addresses()
    reader.feed(page.text)
    for address in reader.found:
        if not address.startswith("#"):
            assert server.client.get(address).status_code == 200, address
