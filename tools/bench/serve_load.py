"""Latency and throughput of a running gallery server, measured with locust.

    python -m tools.bench.serve_load --url=http://127.0.0.1:8000 --clients=1,32 --rerank=0,32

Every line tells requests a second, p50, p95 and p99 in milliseconds, and errors, of so many
clients that ask without a pause. The first seconds of each are left out. The last line is JSON.
The clients run in a process of their own; on the server's machine they take some of its cores.
"""

import argparse
import contextlib
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from cada_jax.common.command_line import run_command
from cada_jax.common.errors import UsageError
from tools import arguments

USER = pathlib.Path(__file__).with_name("serve_user.py")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(argv: list[str] | None = None) -> int:
    """Parses the flags and measures; returns the exit status, 1 if there were errors."""
    return run_command(lambda: _measure_all(_parse(argv)))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = arguments.Parser("tools.bench.serve_load", __doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the running server")
    parser.add_argument("--clients", type=_numbers, default=[1, 32], help="1,32")
    parser.add_argument("--rerank", type=_numbers, default=[0, 32], help="0,32")
    parser.add_argument(
        "--seconds", type=arguments.integer(1), default=30, help="of each measurement"
    )
    parser.add_argument(
        "--warm_seconds", type=arguments.integer(1), default=5, help="left out before each"
    )
    return parser.flags(argv)


def _measure_all(flags: argparse.Namespace) -> int:
    print(
        f"{'clients':>8}{'rerank':>8}{'requests':>10}{'/s':>8}{'p50 ms':>8}{'p95 ms':>8}"
        f"{'p99 ms':>8}{'errors':>8}"
    )
    rows = []
    for rerank in flags.rerank:
        for clients in flags.clients:
            with contextlib.suppress(UsageError):  # the measurement itself will say it again
                measure(flags.url, clients, rerank, flags.warm_seconds)
            row = measure(flags.url, clients, rerank, flags.seconds)
            rows.append(row)
            print(
                f"{clients:8}{rerank:8}{row['requests']:10}{row['per_second']:8.1f}"
                f"{row['p50_ms']:8.0f}{row['p95_ms']:8.0f}{row['p99_ms']:8.0f}{row['errors']:8}",
                flush=True,
            )
    print(json.dumps(rows))
    return int(any(row["errors"] for row in rows))


def measure(url: str, clients: int, rerank: int, seconds: int) -> dict:
    """One measurement: requests, per_second, p50_ms, p95_ms, p99_ms, errors.

    Args:
      url: of the server.
      clients: that ask at the same time, each as soon as it is answered.
      rerank: pictures that each query re-ranks.
      seconds: how long.

    Raises:
      UsageError: locust is not installed, or nothing was answered.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "locust", "--locustfile", str(USER), "--headless"]
        command += ["--host", url.rstrip("/"), "--users", str(clients), "--spawn-rate", "1000"]
        command += ["--run-time", f"{seconds}s", "--stop-timeout", "60s", "--only-summary"]
        command += ["--csv", f"{folder}/load", "--exit-code-on-error", "0"]
        environment = {**os.environ, "CADA_RERANK": str(rerank)}
        ran = subprocess.run(command, capture_output=True, text=True, env=environment)
        stats = pathlib.Path(folder, "load_stats.csv")
        if ran.returncode or not stats.exists():
            last = (ran.stderr.strip() or "it said nothing").splitlines()[-1]
            raise UsageError(f"locust failed ({last}): expected `pip install locust` and a server")
        with stats.open() as file:
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


if __name__ == "__main__":
    sys.exit(main())
