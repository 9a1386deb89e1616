"""The benchmark of preparation and input pipeline measures every stage."""

import re

from tools.bench import data


def test_the_benchmark_measures_each_stage(capsys):
    sizes = ["--size=32x16", "--input_size=16x16", "--batch=2", "--batches=2"]
    assert data.main(["--images=4", *sizes]) == 0
    printed = capsys.readouterr().out
    for part in (
        "plain reading",
        "captions",
        "preparation, 0 worker",
        "ratio",
        "pipeline at 16x16",
    ):
        assert part in printed
    assert re.search(r"1,000 pairs/s need [\d.]+ such cores", printed)
