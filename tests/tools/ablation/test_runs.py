"""The runs of an ablation are run once, in a folder of its own."""

import dataclasses

import pytest

from cada_jax.checkpoints import workdir
from cada_jax.common.errors import UsageError
from cada_jax.config import FREE_KEYS, load_config, to_json
from tests.tools.ablation.fakes import fake_start, leave, right
from tools.ablation import processes, report, rows, runs


def test_runs_that_are_done_are_not_run_again(base, chosen, tmp_path):
    planned, started = runs.plan(base, chosen, 2, tmp_path), []
    runs.claim(tmp_path, base, planned)
    assert processes.run_all(planned, fake_start(right, started)) == []
    assert started == ["global-seed0", "atp-seed0", "global-seed1", "atp-seed1"]
    started.clear()
    again = runs.plan(base, chosen, 3, tmp_path)
    runs.claim(tmp_path, base, again)
    processes.run_all(again, fake_start(right, started))
    assert started == ["global-seed2", "atp-seed2"]
    (again[0].folder / "results.json").unlink()  # as if it was killed before its end
    started.clear()
    fake = fake_start(lambda run: 143, started)
    with pytest.raises(UsageError, match="exit code 143: see .*global-seed0.log. The same command"):
        processes.run_all(again, fake)
    assert started == ["global-seed0"]


def test_rows_of_one_configuration_share_their_runs(tmp_path):
    base, chosen = load_config("synthetic"), rows.choose("ara_phrase,everything,hardest,sampled")
    planned, started = runs.plan(base, chosen, 1, tmp_path), []
    processes.run_all(planned, fake_start(right, started))
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

    failed = processes.run_all(planned, fake_start(outcome, started))
    assert [run.folder.name for run in failed] == ["atp-seed0"] and len(started) == 4
    entry = report.make_table(planned, chosen, failed)[1]
    assert (entry["seeds"], entry["failed_seeds"]) == ([1], [0])
    assert "failed: seeds 0" in report.markdown([entry], [])


def test_a_folder_of_another_ablation_is_refused_with_the_difference(base, chosen, tmp_path):
    planned = runs.plan(base, chosen, 1, tmp_path)
    runs.claim(tmp_path, base, planned)
    processes.run_all(planned, fake_start(right, []))
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
    processes.run_all(planned, fake_start(right, []))
    changed = dataclasses.replace(chosen[1], changes={**chosen[1].changes, "loss.scale": 9.0})
    again = runs.plan(base, [chosen[0], changed], 1, tmp_path)
    with pytest.raises(UsageError, match="atp-seed0 was begun .* config.loss.scale is 50.0 there"):
        runs.claim(tmp_path, base, again)


def test_what_decides_which_figures_a_run_has_may_not_change():
    assert set(runs.FREE) < set(FREE_KEYS)
    assert not {"eval.split", "eval.baseline", "eval.save_queries"} & set(runs.FREE)


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


def trained_and_mirrored(tmp_path, **fields):
    """Runs of "everything" and "mirror", the first done."""
    base = load_config("synthetic:tiny")
    base.eval.update(fields)
    every, mirror = runs.plan(base, rows.choose("everything,mirror"), 1, tmp_path)
    leave(every, right(every))
    (every.folder / "model").mkdir()
    (every.folder / "model" / "params").write_text("trained")
    (every.folder / workdir.LOCK_FILE).write_text("")
    return every, mirror


def test_a_row_that_only_scores_otherwise_is_not_trained_again(tmp_path):
    every, mirror = trained_and_mirrored(tmp_path, select="last")
    assert "--mode=eval" not in runs.command(mirror, "synthetic:tiny", {})
    runs.copy_trained(mirror, [every, mirror])
    assert not mirror.done
    assert (mirror.folder / "model" / "params").read_text() == "trained"
    assert not (mirror.folder / workdir.LOCK_FILE).exists()
    runs.claim(every.folder.parent.parent / "other", mirror.config, [mirror])  # no difference
    argv = runs.command(mirror, "synthetic:tiny", {})
    assert "--mode=eval" in argv and "--config.eval.mirror=true" in [x.lower() for x in argv]
    (every.folder / "model" / "params").write_text("another")
    runs.copy_trained(mirror, [every, mirror])  # what was begun stays
    assert (mirror.folder / "model" / "params").read_text() == "trained"


@pytest.mark.parametrize("row", ["gate", "not_causal", "phrases", "released", "transport"])
def test_a_row_that_trains_otherwise_takes_nothing(row, tmp_path):
    every, _ = trained_and_mirrored(tmp_path, select="last")
    base = load_config("synthetic:tiny")
    base.eval.select = "last"
    (run,) = runs.plan(base, rows.choose(row), 1, tmp_path)
    runs.copy_trained(run, [every, run])
    assert not run.folder.exists()


def test_where_the_score_chooses_the_parameters_none_are_taken(tmp_path):
    every, mirror = trained_and_mirrored(tmp_path, select="best")
    runs.copy_trained(mirror, [every, mirror])
    assert not mirror.folder.exists()


def test_nothing_is_taken_from_a_run_that_is_not_done(tmp_path):
    every, mirror = trained_and_mirrored(tmp_path, select="last")
    (every.folder / "queries.jsonl").unlink()
    runs.copy_trained(mirror, [every, mirror])
    assert not mirror.folder.exists()
