"""Latency and throughput of a running gallery server, measured with locust.

    python -m tools.bench.serve_load --url=http://127.0.0.1:8000 --clients=1,32 --rerank=0,32

Every line tells requests a second, p50, p95 and p99 in milliseconds, and errors, of so many
clients that ask without a pause. The first seconds of each are left out. The last line is JSON.
The clients run in a process of their own; on the server's machine they take some of its cores.
"""

import contextlib
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from cada_jax.common.errors import UsageError
from tools.arguments import Parser, command

USER = pathlib.Path(__file__).with_name("serve_user.py")
HEADER = ("clients", "rerank", "requests", "per_second", "p50_ms", "p95_ms", "p99_ms", "errors")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def run(argv: Sequence[str] | None) -> int:
    """Measures as the flags say; returns the exit status, 1 if there were errors."""
    parser = Parser("tools.bench.serve_load", __doc__)
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8000", help="of the running server")
    add("--clients", type=_numbers, default=[1, 32], help="1,32")
    add("--rerank", type=_numbers, default=[0, 32], help="0,32")
    add("--seconds", type=int, default=30, help="of each measurement")
    add("--warm_seconds", type=int, default=5, help="left out before each")
    flags = parser.flags(argv)
    print(" ".join(f"{name:>10}" for name in HEADER))
    rows = []
    for rerank in flags.rerank:
        for clients in flags.clients:
            with contextlib.suppress(UsageError):  # the measurement itself will say it again
                measure(flags.url, clients, rerank, flags.warm_seconds)
            rows.append(measure(flags.url, clients, rerank, flags.seconds))
            print(" ".join(f"{rows[-1][name]:10.5g}" for name in HEADER), flush=True)
    print(json.dumps(rows))
    return int(any(row["errors"] for row in rows))


def measure(url: str, clients: int, rerank: int, seconds: int) -> dict:
    """One measurement: a figure for each name of `HEADER`.

    Args:
      url: of the server.
      clients: that ask at the same time, each as soon as it is answered.
      rerank: pictures that each query re-ranks.
      seconds: how long.

    Raises:
      UsageError: locust failed, or nothing was answered.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "locust", "--locustfile", str(USER), "--headless"]
        command += ["--host", url.rstrip("/"), "--users", str(clients), "--spawn-rate", "1000"]
        command += ["--run-time", f"{seconds}s", "--stop-timeout", "60s", "--only-summary"]
        command += ["--csv", f"{folder}/load", "--exit-code-on-error", "0"]
        environment = {**os.environ, "CADA_RERANK": str(rerank)}
        ran = subprocess.run(command, capture_output=True, text=True, env=environment)
        if ran.returncode:
            raise UsageError(f"locust failed: {ran.stderr[-300:] or 'it said nothing'}")
        with pathlib.Path(folder, "load_stats.csv").open() as file:
            row = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
    if not int(row["Request Count"]):
        raise UsageError(f"{url} answered nothing within {seconds} s: give it longer --seconds")
    return {
        "clients": clients,
        "rerank": rerank,
        "requests": int(row["Request Count"]),
        "per_second": float(row["Requests/s"]),
        "p50_ms": float(row["50%"]),
        "p95_ms": float(row["95%"]),
        "p99_ms": float(row["99%"]),
        "errors": int(row["Failure Count"]),
    }


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
