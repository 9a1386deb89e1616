"""Indexes pictures beside a server that answers all the time, and counts what fails.

    python -m tools.bench.serve_beside --count=1000 --clients=4

A tenth of the generated people is indexed and served. Clients then ask without a pause, while
`cada index` adds the rest. Every answer has to be 200, and in the end every picture has to be
found. The last line is JSON; the exit status is 1 if something failed.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import urlencode

from cada_jax.common.command_line import DONE, run_command
from tools import arguments
from tools.bench.index import draw_people

COMMAND = [sys.executable, "-m", "cada_jax"]
QUERY = {"q": "a woman in a yellow coat with a black backpack", "k": 1000, "rerank": 0}


def get(url: str, **fields) -> tuple[int, dict]:
    """The status and the JSON of an answer; 0 for none."""
    try:
        with urllib.request.urlopen(f"{url}?{urlencode(fields)}", timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, {}
    except OSError:
        return 0, {}


class Clients:
    """Threads that ask one search after the other until they are stopped."""

    def __init__(self, url: str, count: int):
        self.times: list[tuple[float, float]] = []  # when it was asked, and the seconds it took
        self.errors = 0
        self._url, self._stopped = url, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._stopped.is_set():
            begin = time.perf_counter()
            status, _ = get(f"{self._url}api/search", **QUERY | {"k": 10, "rerank": 32})
            self.times.append((begin, time.perf_counter() - begin))
            self.errors += status != 200

    def stop(self) -> None:
        """Ends the threads."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()


def measure(folder: pathlib.Path, count: int, clients: int, alone: float = 10) -> dict:
    """Requests, errors, median milliseconds alone and beside, pictures found, seconds to notice.

    Args:
      folder: an empty one.
      count: of pictures.
      clients: that ask at once.
      alone: seconds before the indexing begins.
    """
    photos = folder / "photos"
    photos.mkdir()
    draw_people(photos, count)
    later = sorted(photos.iterdir())[count // 10 :]
    for path in later:
        path.rename(path.with_suffix(".later"))
    index = [*COMMAND, "index", "--model=pretrained:synthetic", f"--images={photos}"]
    index.append(f"--db={folder / 'people.db'}")
    subprocess.run(index, check=True, capture_output=True)
    for path in later:
        path.with_suffix(".later").rename(path)
    serve = [*COMMAND, "serve", f"--db={folder / 'people.db'}", "--port=0"]
    server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        while get(f"{url}healthz")[0] != 200:
            time.sleep(0.1)
        asking = Clients(url, clients)
        time.sleep(alone)
        begin = time.perf_counter()
        subprocess.run(index, check=True, capture_output=True)
        ended = time.perf_counter()
        while get(f"{url}healthz")[1]["gallery_size"] < count and time.perf_counter() < ended + 60:
            time.sleep(0.05)
        noticed = time.perf_counter() - ended
        asking.stop()
        _, answer = get(f"{url}api/search", **QUERY)
    finally:
        server.terminate()
        server.wait()
    parts = {True: [], False: []}
    for when, seconds in asking.times:
        parts[when > begin].append(1000 * seconds)
    return {
        "requests": len(asking.times),
        "errors": asking.errors,
        "p50_ms_alone": round(statistics.median(parts[False]), 1),
        "p50_ms_beside": round(statistics.median(parts[True]), 1),
        "index_seconds": round(ended - begin, 1),
        "noticed_seconds": round(noticed, 2),
        "found": len(answer["results"]),
        "count": count,
    }


def main(argv: list[str] | None = None) -> int:
    """Parses the flags and measures; returns the exit status."""
    parser = arguments.Parser("tools.bench.serve_beside", __doc__)
    kind = arguments.integer(10, 1000)
    parser.add_argument("--count", type=kind, default=1000, help="of pictures")
    parser.add_argument("--clients", type=arguments.integer(1), default=4, help="asking at once")

    def work(flags: argparse.Namespace) -> int:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(pathlib.Path(folder), flags.count, flags.clients)
        print(json.dumps(row))
        return DONE if not row["errors"] and row["found"] == flags.count else 1

    return run_command(lambda: work(parser.flags(argv)))


if __name__ == "__main__":
    sys.exit(main())
