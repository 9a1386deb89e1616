"""Processes of an ablation: they end when they must, and share no CPU."""

import os
import subprocess
import sys
import threading
import time

import pytest

from cada_jax.common.errors import UsageError
from tests.tools.ablation.fakes import leave, right
from tools import ablate
from tools.ablation import processes, rows, runs

STOPPABLE = """
import signal, sys, time

def stop(*_):
    sys.exit("saved")

signal.signal(signal.SIGTERM, stop)
print("started", file=sys.stderr, flush=True)
time.sleep(60)
"""


def started_processes(ended):
    """A `start` of real processes that wait, and what ends them; "global" ends by itself."""
    own = processes.Processes()

    def start(run):
        program = ended if run.row.name == "global" else STOPPABLE
        return own.run([sys.executable, "-c", program], run.log)

    return start, own.end


@pytest.mark.parametrize(
    ("ended", "error"),
    [
        ("raise SystemExit(2)", UsageError),
        ("os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)", SystemExit),
    ],
)
def test_what_goes_on_beside_a_run_is_ended_when_that_fails_or_a_signal_comes(
    base, tmp_path, ended, error
):
    planned, began = runs.plan(base, rows.choose("global,atp"), 1, tmp_path), time.monotonic()
    start, end = started_processes(f"""
import os, pathlib, signal, time

log = pathlib.Path({str(planned[1].log)!r})
while not (log.exists() and "started" in log.read_text()):
    time.sleep(0.1)
{ended}
""")
    with pytest.raises(error), ablate.sigterm_raises():
        processes.run_all(planned, start, [set(), set()], end)
    assert time.monotonic() - began < 50
    assert planned[1].log.read_text() == "started\nsaved\n"


def test_no_process_begins_after_the_end(base, tmp_path):
    start, end = started_processes("raise SystemExit(0)")
    end()
    run = runs.plan(base, rows.choose("global"), 1, tmp_path)[0]
    run.folder.parent.mkdir(parents=True)
    assert start(run) == processes.STOPPED


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a system that binds no process")
def test_runs_at_a_time_have_cpus_of_their_own(base, chosen, tmp_path):
    available = os.sched_getaffinity(0)
    if len(available) < 2:
        pytest.skip("one CPU")
    planned, said, both = runs.plan(base, chosen, 1, tmp_path), [], threading.Barrier(2)

    def start(run):
        both.wait(timeout=60)  # two go on at a time
        program = "import os; print(*os.sched_getaffinity(0))"
        said.append(subprocess.run([sys.executable, "-c", program], capture_output=True).stdout)
        leave(run, right(run))
        return 0

    shares = processes.cpu_shares(2)
    assert processes.run_all(planned, start, shares) == []
    first, second = ({int(cpu) for cpu in line.split()} for line in said)
    assert first and second and not first & second and first | second == available
    assert os.sched_getaffinity(0) == available
