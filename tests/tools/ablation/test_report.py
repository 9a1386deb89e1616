"""The table has the figures of known runs."""

import json

import pytest

from tests.tools.ablation.fakes import fake_start
from tools.ablation import processes, report, runs
from tools.ablation.significance import two_sided


def test_the_table_has_means_gains_and_the_sign_test_of_known_ranks(base, chosen, tmp_path):
    planned = runs.plan(base, chosen, 2, tmp_path)
    ranks = {
        "global-seed0": [1, 2, 2, None],
        "global-seed1": [1, 2, 2, 1],
        "atp-seed0": [1, 1, 2, 1],
        "atp-seed1": [2, 1, 1, 1],
    }
    processes.run_all(planned, fake_start(lambda run: ranks[run.folder.name], []))
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
