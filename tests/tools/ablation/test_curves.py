"""The learning curves: read from events, averaged, drawn."""

import time

from tools.ablation import curves


def test_a_mean_curve_has_the_steps_that_all_runs_have():
    assert curves.mean_curve([{3: 1.0, 1: 2.0}, {1: 4.0, 2: 9.0}]) == [(1, 3.0)]
    assert curves.mean_curve([]) == []


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
