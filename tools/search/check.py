"""Checks, query by query, that search ranks as the evaluation of the demo did.

    python -m tools.search.check --workdir=runs/demo
    python -m tools.search.check --workdir=runs/demo --tokens=memory

The workdir is that of the demo (configs/synthetic.py). Its test pictures are drawn again, written
as the JPEG files that they are, indexed, and searched with every caption of queries.jsonl. The exit
status is 1 if R@1 differs from results.json or any query's first result is right where the
evaluation's was wrong, or the other way round.

--tokens=store keeps the decoder's image tokens in bfloat16, recompute computes them from the
pictures, memory has no index at all. By default all three are checked.
"""

import json
import pathlib
import sys
import tempfile
from collections.abc import Sequence

from cada_jax.common.console import progress_bar, say
from cada_jax.common.errors import MissingFileError
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.searchable import Searchable
from cada_jax.retriever import Hit, Retriever, load_model
from tools.arguments import Parser, command
from tools.search.pictures import draw, write_files

KINDS = ("memory", "recompute", "store")
QUERIES_AT_ONCE = 200


def run(argv: Sequence[str] | None) -> int:
    """Checks as the flags say; returns the exit status."""
    parser = Parser("tools.search.check", __doc__)
    parser.add_argument("--workdir", required=True, help="of the demo, trained and scored")
    parser.add_argument("--tokens", choices=KINDS, help="one kind of gallery; all if not given")
    flags = parser.flags(argv)
    workdir = pathlib.Path(flags.workdir).expanduser()
    results, queries = read_evaluation(workdir)
    retriever = load_model(workdir / "model")
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        (folder / "pictures").mkdir()
        paths = write_files(folder / "pictures", draw("demo", "test"))
        equal = True
        for kind in [flags.tokens] if flags.tokens else KINDS:
            gallery = make_gallery(kind, folder, paths, retriever)
            report = compare(retriever, gallery, results, queries)
            equal = equal and report.pop("equal")
            print(json.dumps({"tokens": kind} | report), flush=True)
            if not isinstance(gallery, EncodedImages):
                gallery.close()
    return 0 if equal else 1


def read_evaluation(workdir: pathlib.Path) -> tuple[dict, list[dict]]:
    """The results.json and the lines of the queries.jsonl of a run.

    Raises:
      MissingFileError: the run was not scored.
    """
    files = workdir / "results.json", workdir / "queries.jsonl"
    if missing := next((file for file in files if not file.is_file()), None):
        raise MissingFileError(f"{missing} is not there: train the demo, or score it, first")
    lines = files[1].read_text(encoding="utf-8").splitlines()
    return json.loads(files[0].read_text(encoding="utf-8")), [json.loads(line) for line in lines]


def make_gallery(kind: str, folder: pathlib.Path, paths: list[pathlib.Path], retriever: Retriever):
    """The pictures as a gallery of one of `KINDS`."""
    if kind == "memory":
        return retriever.encode_images(paths)
    from cada_jax.gallery.gallery import Gallery
    from cada_jax.gallery.index import IndexOptions

    say(f"index with --tokens={kind}")
    options = IndexOptions(tokens=kind)
    return Gallery.index(folder / f"{kind}.db", folder / "pictures", retriever, options)


def compare(
    retriever: Retriever,
    gallery: EncodedImages | Searchable,
    results: dict,
    queries: list[dict],
) -> dict:
    """Searches every caption in both ways and compares the first results with the evaluation's.

    Returns:
      R1_global, R1_reranked in percent; queries whose first result is right in one and wrong in
      the other: differ_global, differ_reranked; lists_differ: re-ranked lists of ten in another
      order; equal: whether nothing but those lists differs.
    """
    captions = [query["caption"] for query in queries]
    k = len(queries[0]["hits"])
    found = {}
    for name, rerank in (("global", 0), ("reranked", results["rerank_top_k"])):
        hits: list[list[Hit]] = []
        starts = range(0, len(captions), QUERIES_AT_ONCE)
        for begin in progress_bar(starts, len(starts), f"search, {name}"):
            some = captions[begin : begin + QUERIES_AT_ONCE]
            hits += retriever.search(some, gallery, k=k, rerank=rerank)
        found[name] = hits
    report, equal = {}, True
    for name, hits in found.items():
        right = [_pid(one[0]) == query["pid"] for one, query in zip(hits, queries, strict=True)]
        was = [query[f"rank_{name}"] == 1 for query in queries]
        report[f"R1_{name}"] = round(100 * sum(right) / len(right), 2)
        differ = sum(a != b for a, b in zip(right, was, strict=True))
        report[f"differ_{name}"] = differ
        equal = equal and not differ and abs(report[f"R1_{name}"] - results[name]["R1"]) < 0.005
    report["lists_differ"] = sum(
        [_name(hit) for hit in one] != [pathlib.PurePath(h["image"]).stem for h in query["hits"]]
        for one, query in zip(found["reranked"], queries, strict=True)
    )
    return report | {"equal": equal}


def _name(hit: Hit) -> str:
    return pathlib.PurePath(hit.name).stem


def _pid(hit: Hit) -> int:
    """The person that a file's name begins with."""
    return int(_name(hit).split("_")[0])


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
