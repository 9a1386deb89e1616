"""The ablation table is right, and its runs are run once."""

import dataclasses
import io
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common.errors import UsageError
from cada_jax.config import FREE_KEYS, differing_keys, load_config, to_json
from configs.variants import VARIANTS
from tests.conftest import FAST_COMPILE, REPOSITORY
from tools import ablate
from tools.ablation import curves, processes, report, rows, runs
from tools.ablation.significance import sign_test, spread, two_sided

# ---- the figures


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),  # twice the tail is above 1
        (9, 1, 22 / 1024),
    ],
)
def test_the_sign_test_gives_binomial_tails_computed_by_hand(better, worse, p):
    assert two_sided(better, worse) == pytest.approx(p, rel=1e-12)


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_sign_test_is_symmetric_and_equals_the_sum_of_the_binomial(better, worse):
    p = two_sided(better, worse)
    n, few = better + worse, min(better, worse)
    tail = sum(math.comb(n, i) for i in range(few + 1))
    assert p == two_sided(worse, better) and 0 < p <= 1
    assert p == pytest.approx(min(1.0, 2 * tail / 2**n), rel=1e-12)


def test_the_sign_test_of_very_many_queries_is_never_zero():
    assert two_sided(10_000, 0) == math.ulp(0.0)
    assert two_sided(5_100, 4_900) == pytest.approx(0.0466, abs=5e-4)  # z = 1.99


def test_a_query_counts_once_by_the_seeds_that_find_it_and_ties_are_left_out():
    ours = np.array([[1, 1, 0, 0, 1], [1, 0, 0, 1, 1], [1, 0, 1, 1, 0]], bool)
    theirs = np.array([[0, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 1, 1, 0]], bool)
    found = sign_test(ours, theirs)  # found by 3,1,1,2,2 and by 2,1,2,2,0 of the seeds
    assert (found.better, found.worse, found.ties) == (2, 1, 2)
    assert found.p == two_sided(2, 1)


def test_rows_of_another_number_of_seeds_are_compared_by_their_share():
    found = sign_test(np.ones((3, 4), bool), np.array([[1, 1, 1, 0]], bool))
    assert (found.better, found.worse, found.ties) == (1, 0, 3)


def test_rows_of_other_queries_are_not_compared():
    with pytest.raises(ValueError, match="of the same queries"):
        sign_test(np.ones((3, 4), bool), np.ones((3, 5), bool))


def test_the_deviation_is_that_of_a_sample_and_one_seed_has_none():
    assert spread([1.0, 3.0]) == ([1.0, 3.0], 2.0, pytest.approx(math.sqrt(2)))
    assert spread([5.0]) == ([5.0], 5.0, None)


# ---- the rows


@pytest.mark.parametrize("name", ["synthetic", "synthetic:tiny", "rstp", "cuhk", "icfg"])
def test_every_row_is_a_valid_configuration_and_leaves_the_base_alone(name):
    base = load_config(name)
    before = to_json(base)
    for row in rows.ROWS:
        config = rows.config_of(base, row, 7)
        assert config.seed == 7
        expected = {*row.changes, "seed"}
        assert set(differing_keys(config, base)) <= expected
    assert to_json(base) == before


def test_the_released_row_is_the_released_variant_but_for_three_fields():
    config = load_config("default")
    VARIANTS["released"](config)
    different = differing_keys(config, load_config("default"))
    changed = rows.BY_NAME["released"].changes
    left_out = {"data.tagger", "data.tag_unit", "eval.select_on"}
    assert {name: ours for name, (ours, _) in different.items()}.items() <= (
        changed.items() | {(n, different[n][0]) for n in left_out if n in different}
    )
    released = differing_keys(rows.config_of(load_config("default"), _row("released"), 0), config)
    assert set(released) <= left_out | {"seed"}


def _row(name):
    return rows.BY_NAME[name]


def test_a_row_is_compared_with_the_nearest_chosen_one_before_it():
    chosen = rows.choose("global,gate,released")
    assert [row.name for row in chosen] == ["global", "gate", "released"]
    against = {row.name: rows.compared_with(row, chosen) for row in chosen}
    assert against["global"] is None
    assert against["gate"].name == "global"
    assert against["released"].name == "gate"


def test_every_row_is_compared_with_one_above_it():
    seen = set()
    for row in rows.ROWS:
        assert row.against in seen or (row.against is None and not seen)
        seen.add(row.name)


@pytest.mark.parametrize(
    ("argv", "init_from", "parts"),
    [
        ([], "pretrained:abroad", "encoders"),
        (["--set", "init_parts=all"], "pretrained:abroad", "all"),
        (["--config=synthetic:scratch"], None, "all"),
        (["--config=synthetic:scratch", "--init=runs/encoders/model"], "runs/encoders/model",
         "encoders"),
    ],
)  # fmt: skip
def test_runs_start_from_encoders_alone_unless_told_otherwise(argv, init_from, parts, tmp_path):
    base, changes = ablate.read_base(ablate.read_flags([f"--out={tmp_path}", *argv]))
    assert (base.init_from, base.init_parts) == (init_from, parts)
    config = load_config("synthetic" if init_from == "pretrained:abroad" else "synthetic:scratch")
    for name, value in changes.items():
        group, _, key = name.rpartition(".")
        with config.unlocked(), config.ignore_type():
            (config[group] if group else config)[key] = value
    assert to_json(config) == to_json(base), "the processes are given the same"


def test_a_start_without_a_decoder_is_trained_by_the_global_loss_alone():
    config = load_config("synthetic:encoders")
    assert (config.loss.atp_weight, config.loss.ara_weight, config.atp.gate) == (0.0, 0.0, "off")
    assert config.init_from == load_config("synthetic:pretrain").init_from
    assert config.data.variant == "abroad"


def test_a_start_that_has_matched_goes_on_from_it_without_gate_and_masked_words():
    config = load_config("synthetic:matched")
    assert config.init_from == "runs/encoders/model"
    assert (config.loss.atp_weight, config.loss.ara_weight, config.atp.gate) == (1.0, 0.0, "off")


# ---- the runs


def fake_start(found, started):
    """In place of training: writes what a run leaves; `found` (run) -> ranks of its queries."""

    def start(run, tell):
        started.append(run.folder.name)
        tell("step 1/2")
        outcome = found(run)
        if isinstance(outcome, int):
            return outcome
        leave(run, outcome)
        return 0

    return start


def leave(run, ranks):
    run.folder.mkdir(parents=True)
    (run.folder / "config.json").write_text(to_json(run.config))
    share = 100 * sum(rank == 1 for rank in ranks) / len(ranks)
    figures = {"R1": share, "mAP": share / 2}
    results = {"global": figures, "reranked": figures, "before": {"reranked": {"R1": 1, "mAP": 2}}}
    lines = [json.dumps({"rank_reranked": rank}) for rank in ranks]
    (run.folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    (run.folder / "results.json").write_text(json.dumps(results))


def right(run):
    return [1, 1, 2, None]


@pytest.fixture
def base():
    return load_config("synthetic:tiny")


@pytest.fixture
def chosen():
    return rows.choose("global,atp")


def test_runs_that_are_done_are_not_run_again(base, chosen, tmp_path):
    planned, started = runs.plan(base, chosen, 2, tmp_path), []
    runs.claim(tmp_path, base, planned)
    said = io.StringIO()
    assert processes.run_all(planned, fake_start(right, started), said) == []
    assert started == ["global-seed0", "atp-seed0", "global-seed1", "atp-seed1"]
    assert "[1/4] global-seed0" in said.getvalue() and "left in all" in said.getvalue()
    started.clear()
    again = runs.plan(base, chosen, 3, tmp_path)
    runs.claim(tmp_path, base, again)
    processes.run_all(again, fake_start(right, started), said)
    assert started == ["global-seed2", "atp-seed2"]
    (again[0].folder / "results.json").unlink()  # as if it was killed before its end
    started.clear()
    fake = fake_start(lambda run: 143, started)
    with pytest.raises(UsageError, match="exit code 143: see .*global-seed0.log. The same command"):
        processes.run_all(again, fake, said)
    assert started == ["global-seed0"]


def test_rows_of_one_configuration_share_their_runs(tmp_path):
    base, chosen = load_config("synthetic"), rows.choose("ara_phrase,everything,hardest,sampled")
    planned, started = runs.plan(base, chosen, 1, tmp_path), []
    processes.run_all(planned, fake_start(right, started), io.StringIO())
    assert started == ["ara_phrase-seed0", "sampled-seed0"]
    table = {entry["name"]: entry for entry in report.make_table(planned, chosen, [])}
    assert table["everything"]["same_runs_as"] == "ara_phrase"
    assert table["everything"]["sign_test"] is None and table["everything"]["gain"] is None
    assert table["ara_phrase"]["same_runs_as"] is None
    assert table["sampled"]["sign_test"]["ties"] == 4


def test_a_run_keeps_its_folder_when_other_rows_are_chosen(tmp_path):
    base = load_config("synthetic")
    every = {r.row.name: r.folder for r in runs.plan(base, rows.choose(""), 1, tmp_path)}
    for name in rows.BY_NAME:
        (run,) = runs.plan(base, rows.choose(name), 1, tmp_path)
        assert run.folder == every[name]


def test_a_run_that_diverges_is_told_and_the_others_are_run(base, chosen, tmp_path):
    planned, started = runs.plan(base, chosen, 2, tmp_path), []

    def outcome(run):
        return 1 if run.folder.name == "atp-seed0" else right(run)

    failed = processes.run_all(planned, fake_start(outcome, started), io.StringIO())
    assert [run.folder.name for run in failed] == ["atp-seed0"] and len(started) == 4
    entry = report.make_table(planned, chosen, failed)[1]
    assert (entry["seeds"], entry["failed_seeds"]) == ([1], [0])
    assert "failed: seeds 0" in report.markdown([entry], [])


def test_a_folder_of_another_ablation_is_refused_with_the_difference(base, chosen, tmp_path):
    planned = runs.plan(base, chosen, 1, tmp_path)
    runs.claim(tmp_path, base, planned)
    processes.run_all(planned, fake_start(right, []), io.StringIO())
    other = base.copy_and_resolve_references()
    other.train.log_every = 7  # decides no number
    runs.claim(tmp_path, other, runs.plan(other, chosen, 1, tmp_path))
    other.train.epochs = 9
    with pytest.raises(UsageError, match="config.train.epochs is 2 there and 9 now") as error:
        runs.claim(tmp_path, other, runs.plan(other, chosen, 1, tmp_path))
    assert "\n" not in str(error.value)


def test_a_run_of_another_row_table_is_refused(base, chosen, tmp_path):
    planned = runs.plan(base, chosen, 1, tmp_path)
    runs.claim(tmp_path, base, planned)
    processes.run_all(planned, fake_start(right, []), io.StringIO())
    changed = dataclasses.replace(chosen[1], changes={**chosen[1].changes, "loss.scale": 9.0})
    again = runs.plan(base, [chosen[0], changed], 1, tmp_path)
    with pytest.raises(UsageError, match="atp-seed0 was begun .* config.loss.scale is 50.0 there"):
        runs.claim(tmp_path, base, again)


def test_what_decides_which_figures_a_run_has_may_not_change():
    assert set(runs.FREE) < set(FREE_KEYS)
    assert not {"eval.split", "eval.before", "eval.save_queries"} & set(runs.FREE)


def test_the_command_of_a_run_gives_its_configuration(base, tmp_path):
    changes = {"train.max_steps": 4, "eval.save_queries": True, "init_from": None}
    run = runs.plan(base, rows.choose("released"), 1, tmp_path)[0]
    argv = runs.command(run, "synthetic:tiny", changes)
    assert argv[1:3] == ["-m", "cada_jax.main"] and f"--workdir={run.folder}" in argv
    from cada_jax.config import apply_overrides, split_overrides

    others, values = split_overrides(argv[3:])
    config = load_config("synthetic:tiny")
    apply_overrides(config, values)
    apply_overrides(base, changes)
    assert to_json(config) == to_json(rows.config_of(base, run.row, 0))
    assert [other.partition("=")[0] for other in others] == ["--config", "--workdir"]


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

    def start(run, tell):
        program = ended if run.row.name == "global" else STOPPABLE
        return own.run([sys.executable, "-c", program], run.log, tell)

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
        processes.run_all(planned, start, io.StringIO(), [set(), set()], end)
    assert time.monotonic() - began < 50
    assert planned[1].log.read_text().endswith("saved\n")


def test_no_process_begins_after_the_end(base, tmp_path):
    start, end = started_processes("raise SystemExit(0)")
    end()
    run = runs.plan(base, rows.choose("global"), 1, tmp_path)[0]
    run.folder.parent.mkdir(parents=True)
    assert start(run, print) == 128 + signal.SIGTERM


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a system that binds no process")
def test_runs_at_a_time_have_cpus_of_their_own(base, chosen, tmp_path):
    available = os.sched_getaffinity(0)
    if len(available) < 2:
        pytest.skip("one CPU")
    planned, said, both = runs.plan(base, chosen, 1, tmp_path), [], threading.Barrier(2)

    def start(run, tell):
        both.wait(timeout=60)  # two go on at a time
        program = "import os; print(*os.sched_getaffinity(0))"
        said.append(subprocess.run([sys.executable, "-c", program], capture_output=True).stdout)
        leave(run, right(run))
        return 0

    shares = processes.cpu_shares(2)
    assert processes.run_all(planned, start, io.StringIO(), shares) == []
    first, second = ({int(cpu) for cpu in line.split()} for line in said)
    assert first and second and not first & second and first | second == available
    assert os.sched_getaffinity(0) == available


@given(st.integers(2, 8))
def test_all_cpus_are_dealt_out_evenly_and_more_jobs_than_cpus_are_refused(jobs):
    cpus = processes.available_cpus()
    if jobs > len(cpus):
        with pytest.raises(UsageError, match=f"--jobs={jobs}: expected at most one for each CPU"):
            processes.cpu_shares(jobs)
        return
    shares = processes.cpu_shares(jobs)
    assert sorted(cpu for share in shares for cpu in share) == cpus
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_jobs_than_cpus_are_refused_before_anything_is_written(tmp_path, capsys):
    out = tmp_path / "out"
    assert ablate.main([f"--out={out}", "--config=synthetic:tiny", "--jobs=1000"]) == 2
    said = capsys.readouterr().err
    assert "--jobs=1000: expected at most one for each CPU" in said and len(said.splitlines()) == 1
    assert not out.exists()


# ---- the table and the curves


def test_the_table_has_means_gains_and_the_sign_test_of_known_ranks(base, chosen, tmp_path):
    planned = runs.plan(base, chosen, 2, tmp_path)
    ranks = {
        "global-seed0": [1, 2, 2, None],
        "global-seed1": [1, 2, 2, 1],
        "atp-seed0": [1, 1, 2, 1],
        "atp-seed1": [2, 1, 1, 1],
    }
    processes.run_all(planned, fake_start(lambda run: ranks[run.folder.name], []), io.StringIO())
    table = json.loads(json.dumps(report.make_table(planned, chosen, [])))
    first, second = table
    assert first["figures"]["reranked/R1"] == {
        "values": [25.0, 50.0], "mean": 37.5, "std": pytest.approx(17.6777, abs=1e-4),
    }  # fmt: skip
    assert first["gain"] is None and first["sign_test"] is None and first["against"] is None
    assert second["against"] == "global"
    assert second["gain"] == {
        "values": [50.0, 25.0],
        "mean": 37.5,
        "std": pytest.approx(17.6777, abs=1e-4),
    }
    # The four queries: 2 seeds of 2 against 1 of 2, and so on: 1-2, 2-0, 1-0, 2-1.
    assert second["sign_test"] == {"better": 3, "worse": 1, "ties": 0, "p": two_sided(3, 1)}
    text = report.markdown(table, report.notes(2, "2026-01-01", "a machine"))
    assert "| `global` | +37.50 ± 17.68 | 3 / 1 | 0.6250 |" in text
    assert "37.50 ± 17.68 | 37.50 ± 17.68 | 18.75 ± 8.84 | – | – | – | – |" in text


def test_a_row_without_a_finished_run_is_in_the_table(base, chosen, tmp_path):
    table = report.make_table(runs.plan(base, chosen, 1, tmp_path), chosen, [])
    assert "figures" not in table[0] and "no finished run" in report.markdown(table, [])


def test_a_mean_curve_has_the_steps_that_all_runs_have():
    assert curves.mean_curve([{3: 1.0, 1: 2.0}, {1: 4.0, 2: 9.0}]) == [(1, 3.0)]
    assert curves.mean_curve([]) == []


def test_curves_are_drawn_as_svg_with_every_name(tmp_path):
    many = {f"row <{i}>": [(0, float(i)), (9, 2.0 * i)] for i in range(14)}
    curves.draw(tmp_path / "a.svg", "R@1 & more", "percent", many | {"empty": []})
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(many) < set(texts) and "R@1 & more" in texts and "empty" not in texts
    lines = [e.get("points") for e in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(lines) == 14
    for point in " ".join(lines).split():
        x, y = map(float, point.split(","))
        assert curves.LEFT <= x <= curves.WIDTH and curves.TOP <= y <= curves.TOP + curves.HEIGHT


def test_a_constant_curve_is_drawn_and_one_without_points_is_refused(tmp_path):
    curves.draw(tmp_path / "a.svg", "loss", "nats", {"a": [(0, 1.0), (5, 1.0)]})
    with pytest.raises(ValueError, match="no point"):
        curves.draw(tmp_path / "b.svg", "loss", "nats", {"a": [(0, math.nan)]})


def test_the_later_event_file_counts_and_a_torn_one_is_read_to_its_end(tmp_path):
    from clu import metric_writers

    for number, value in enumerate((1.0, 2.0)):
        writer = metric_writers.SummaryWriter(str(tmp_path))
        writer.write_scalars(5, {"val/reranked/R1": value})
        writer.write_scalars(6 + number, {"train/global": value})
        writer.close()
        newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        with newest.open("ab") as file:
            file.write(b"\x10\x00\x00")  # as a killed process leaves it
        time.sleep(1.1)  # the files are named by the second
    found = curves.read_scalars(tmp_path)
    assert found["val/reranked/R1"] == {5: 2.0}
    assert found["train/global"] == {6: 1.0, 7: 2.0}


# ---- the whole


@pytest.mark.slow
def test_two_rows_are_trained_stopped_continued_and_written(tmp_path, monkeypatch):
    monkeypatch.setenv("CADA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("XLA_FLAGS", FAST_COMPILE)
    monkeypatch.chdir(REPOSITORY)
    out = tmp_path / "out"
    flags = [
        f"--out={out}", "--config=synthetic:tiny", "--rows=global,atp", "--seeds=1", "--steps=30",
        "--set", "train.log_every=1", "train.checkpoint_every=1",
    ]  # fmt: skip
    argv = [sys.executable, "-m", "tools.ablate", *flags]
    log = out / "runs" / "global-seed0.log"
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as first:
        while not log.is_file() or "step  3/30" not in log.read_text():
            assert first.poll() is None
            time.sleep(0.1)
        first.send_signal(signal.SIGTERM)
        assert first.wait() == 143
    assert "Stopped by SIGTERM" in log.read_text(), "the run's own process was told"
    assert ablate.main(flags) == 0
    assert "Continuing after step" in log.read_text()
    table = json.loads((out / "table.json").read_text())
    assert [row["name"] for row in table["rows"]] == ["global", "atp"]
    test = table["rows"][1]["sign_test"]
    queries = (out / "runs" / "atp-seed0" / "queries.jsonl").read_text().splitlines()
    assert test["better"] + test["worse"] + test["ties"] == len(queries)
    assert {p.name for p in out.iterdir()} >= {"table.md", "val.svg", "loss.svg"}
    kept = _times(out / "runs")
    assert ablate.main(flags) == 0
    assert _times(out / "runs") == kept, "nothing was trained again"


def _times(folder: pathlib.Path) -> dict:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
