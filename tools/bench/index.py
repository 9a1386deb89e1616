"""Images a second of indexing against those of the bare encoder, side by side in one process.

    python -m tools.bench.index --model=pretrained:synthetic --count=2000
    python -m tools.bench.index --model=DIR --images=photos --rounds=3
    python -m tools.bench.index --count=6000 --against=../before

The bare encoder gets pixels that are decoded and resized already, and gives embeddings and tokens
to the host. Indexing finds, reads, hashes, decodes, resizes, encodes and writes: with the tokens
stored, and with tokens that are computed again. Both compile before. Rounds take turns, so that
what else the machine does hits all alike; the median counts. Without --images, people are drawn.
With --against, the same tool of another checkout takes a turn after each round. The last line is
JSON.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.gallery.index import IndexOptions, batch_size, index_pictures
from cada_jax.gallery.scan import find_files
from cada_jax.gallery.store import RECOMPUTE, STORE
from cada_jax.retrieval.encode import encode_batches
from cada_jax.retrieval.images import pixels_of
from cada_jax.retriever import Retriever, load_model
from tools.arguments import Parser, command
from tools.search.pictures import draw, write_files

HELD = 512  # decoded pictures that the bare encoder gets again and again


def bare(retriever: Retriever, paths: list[str]) -> float:
    """Images a second of the encoder alone, over as many images as there are paths."""
    size = batch_size(retriever)
    held = [pixels_of(path, tuple(retriever.config.data.image_size)) for path in paths[:HELD]]

    def batches(count: int) -> Iterator[tuple[int, np.ndarray]]:
        for begin in range(0, count, size):
            yield begin, np.stack([held[(begin + i) % len(held)] for i in range(size)])

    for _ in encode_batches(retriever, batches(2 * size)):
        pass
    begin = time.perf_counter()
    count = sum(
        len(embeddings) for _, embeddings, _ in encode_batches(retriever, batches(len(paths)))
    )
    return count / (time.perf_counter() - begin)


def indexed(retriever: Retriever, folder: str, tokens: str, count: int) -> float:
    """Images a second of indexing a folder into a new gallery.

    Raises:
      UsageError: not all `count` pictures were indexed.
    """
    with tempfile.TemporaryDirectory() as place:
        begin = time.perf_counter()
        report = index_pictures(f"{place}/db", [folder], retriever, IndexOptions(tokens=tokens))
        seconds = time.perf_counter() - begin
    if report.pictures != count:
        raise UsageError(f"{folder}: {report.pictures} pictures of {count} files were indexed")
    return count / seconds


def other_version(checkout: str, folder: str) -> tuple[float, float, float]:
    """What one round of another checkout says: the bare encoder's images/s, and both shares."""
    command = [sys.executable, "-m", "tools.bench.index", f"--images={folder}", "--rounds=1"]
    ran = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    if ran.returncode:
        raise UsageError(f"--against={checkout} failed: {ran.stderr.strip().splitlines()[-1]}")
    found = json.loads(ran.stdout.splitlines()[-1])
    return found["bare"], found[STORE], found[RECOMPUTE]


def run(argv: Sequence[str] | None) -> int:
    """Measures what the flags name; returns the exit status."""
    parser = Parser("tools.bench.index", __doc__)
    add = parser.add_argument
    add("--model", default="pretrained:synthetic", help="pretrained:synthetic")
    add("--images", help="a folder of pictures")
    add("--count", type=int, default=2000, help="of people to draw (2000)")
    add("--rounds", type=int, default=3, help="of each measurement (3)")
    add("--against", metavar="FOLDER", help="another checkout")
    flags = parser.flags(argv)
    retriever = load_model(flags.model)
    with tempfile.TemporaryDirectory() as drawn:
        folder = flags.images or drawn
        if not flags.images:
            write_files(pathlib.Path(drawn), draw("pretrain", "train", flags.count))
        paths = [file.path for file in find_files([folder]).files]
        print(f"{'bare encoder':>14}{'tokens stored':>16}{'recomputed':>14}   images/s", flush=True)
        rounds, others = [], []
        for _ in range(flags.rounds):
            kinds = (indexed(retriever, folder, kind, len(paths)) for kind in (STORE, RECOMPUTE))
            rounds.append((bare(retriever, paths), *kinds))
            print("{:>14.1f}{:>16.1f}{:>14.1f}".format(*rounds[-1]), flush=True)
            if flags.against:
                others.append(other_version(flags.against, folder))
                print("{:>14.1f}{:>16.3f}{:>14.3f}   before".format(*others[-1]), flush=True)
    encoder, *indexing = (statistics.median(column) for column in zip(*rounds, strict=True))
    share = [round(speed / encoder, 3) for speed in indexing]
    print(f"share of the bare encoder: {share[0]:.2f} stored, {share[1]:.2f} recomputed")
    result = {"images": len(paths), "bare": encoder, STORE: share[0], RECOMPUTE: share[1]}
    if others:
        before = [round(statistics.median(column), 3) for column in zip(*others, strict=True)]
        result["before"] = dict(zip(("bare", STORE, RECOMPUTE), before, strict=True))
    print(json.dumps(result))
    return 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
