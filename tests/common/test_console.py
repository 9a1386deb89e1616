"""What the console shows."""

import io

import pytest

from cada_jax.common import console


@pytest.fixture
def clock(monkeypatch):
    """A list whose one entry is the time."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_a_log_file_gets_one_line_a_report_with_rate_and_time_left(clock):
    out = io.StringIO()
    shown = console.StepProgress(0, 100, 20, 8, out)
    for step in range(1, 11):
        shown.tick(step)
        clock[0] += 2.0
    rate = shown.report(10, {"total": 3.14159})
    # Nine steps of 8 pairs in 20 s: the first, which compiles, is not counted.
    assert rate == pytest.approx(9 * 8 / 20)
    assert out.getvalue() == (
        "step  10/100  epoch 0.50  total 3.142  3.6 pairs/s  3 min 20 s left\n"
    )


def test_a_pause_costs_no_pairs_a_second_but_counts_in_the_time_left(clock):
    out = io.StringIO()
    shown = console.StepProgress(0, 4, 2, 8, out)
    shown.tick(1)
    with shown.paused():
        clock[0] += 30.0
    clock[0] += 1.0
    assert shown.report(2, {}) == pytest.approx(8.0)
    assert "1 min 02 s left" in out.getvalue()


def test_the_summary_names_the_parts_and_the_rest(clock):
    timers = console.Timers()
    for name, seconds in (("data", 3.0), ("steps", 60.0), ("data", 1.0)):
        with timers(name):
            clock[0] += seconds
    clock[0] += 2.0
    assert timers.summary() == "1 min 06 s in all: data 4 s, steps 1 min 00 s, other 2 s"
