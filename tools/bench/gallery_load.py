"""Start, memory and latency of searching a generated gallery, in one process without a server.

    python -m tools.bench.generated_gallery --db=g.db --count=100000
    python -m tools.bench.gallery_load --db=g.db
    PYTHONPATH=../before python tools/bench/gallery_load.py --db=before.db

The third command measures another checkout, whose own tool wrote its gallery. One client asks one
query after another; 32 clients are one batch of 32, as a server's queue would ask at best. The last
line is JSON: start in seconds until the first answer, of which opening; memory in MiB beside the
model's; milliseconds at p50 and p95, queries a second, and milliseconds of a core a query.
"""

import argparse
import json
import resource
import time

import numpy as np

import cada_jax

WORDS = "a man woman person in with and black white red blue coat shoes bag hat".split()


def measure(ask, seconds: float) -> tuple[float, float, float]:
    """p50, p95 and mean time of a core, in ms, of a call repeated so long, 20 times at least."""
    times: list[float] = []
    processor = time.process_time()
    while sum(times) < seconds or len(times) < 20:
        begin = time.perf_counter()
        ask()
        times.append(time.perf_counter() - begin)
    processor = (time.process_time() - processor) / len(times)
    return tuple(1000 * np.array([*np.percentile(times, [50, 95]), processor]))


def memory() -> float:
    """The most memory that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Parses the flags, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", required=True)
    parser.add_argument("--model", default="pretrained:synthetic")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rerank", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    flags = parser.parse_args()
    retriever = cada_jax.load_model(flags.model)
    draw = np.random.default_rng(0)

    def queries(count: int, rerank: int) -> list:
        texts = [" ".join(draw.choice(WORDS, 8)) for _ in range(count)]
        return [cada_jax.Query(text, k=10, rerank=rerank) for text in texts]

    images = retriever.encode_images([np.zeros((*retriever.config.data.image_size, 3), np.uint8)])
    retriever.search(queries(1, 0), images)  # compiles what is no matter of the gallery
    before, begin = memory(), time.perf_counter()
    with cada_jax.Gallery.open(flags.db, retriever) as gallery:
        opened = time.perf_counter() - begin
        retriever.search(queries(1, 0), gallery)
        start = time.perf_counter() - begin
        row = {"pictures": len(gallery), "open_s": round(opened, 2), "start_s": round(start, 2)}
        row["memory_mib"] = round(memory() - before)
        print(json.dumps(row), flush=True)
        for rerank in flags.rerank:
            for clients in flags.clients:
                for _ in range(3):
                    retriever.search(queries(clients, rerank), gallery)
                p50, p95, core = measure(
                    lambda: retriever.search(queries(clients, rerank), gallery),  # noqa: B023
                    flags.seconds,
                )
                each = dict(clients=clients, rerank=rerank, p50_ms=round(p50, 1))
                each |= dict(p95_ms=round(p95, 1), per_second=round(1000 * clients / p50))
                each |= dict(core_ms_a_query=round(core / clients, 1))  # good on a busy machine too
                print(json.dumps(row | each), flush=True)


if __name__ == "__main__":
    main()
