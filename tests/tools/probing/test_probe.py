"""The tool."""

import json

from tools import probe
from tools.probing import (
    report,
    subject,
)


def test_two_measurements_of_one_model_are_equal_and_every_file_is_written(one, tmp_path):
    few = subject.make_subject("random", one.retriever, one.split, 20)
    first, second = probe.measure(few), probe.measure(few)
    assert first == second
    plain = probe.write(tmp_path / "new", [first, {**second, "model": "other"}])
    assert "random" in plain and "other" in plain
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"probe.json", "probe.md"}
    stored = json.loads((tmp_path / "new" / "probe.json").read_text())
    assert [entry["model"] for entry in stored] == ["random", "other"]
    text = (tmp_path / "new" / "probe.md").read_text()
    assert text.count("\n## ") == 6 and "nan" not in text.lower()


def test_a_model_without_gates_leaves_dashes_beside_one_with_gates():
    found = {"model": "with", "gate": {"layers": 2}, "negatives": {"batch": 16}}
    without = {**found, "model": "without", "gate": None}
    gate, negatives = report.make_tables([found, without])
    assert gate.rows == [("layers", ["2", report.NOTHING])]
    assert negatives.rows == [("batch", ["16", "16"])]
    assert [table.title for table in report.make_tables([without])] == ["negatives"]


def test_the_shipped_model_reads_masked_colours_from_the_image(one, tmp_path, capsys):
    data_dir = one.retriever.config.data.data_dir
    flags = ["--dataset=synthetic/tiny", f"--data_dir={data_dir}", f"--out={tmp_path / 'new'}"]
    assert probe.main(["--model=pretrained:synthetic", *flags]) == 0
    assert "R1, reranked" in capsys.readouterr().out
    found = json.loads((tmp_path / "new" / "probe.json").read_text())[0]
    colour = found["masked_words"]["alone"]["classes"]["colour"]
    assert colour["right"]["accuracy"] > 3 * colour["wrong"]["accuracy"]
    assert found["negatives"]["hardest"]["loss"] > found["negatives"]["random"]["loss"]
