"""A path that cannot be one is told by every command in one line, and nothing is made."""

import pytest

from cada_jax import __main__ as commands

MODEL = "pretrained:matched"
PLACES = (
    "train --config=synthetic --workdir={}",
    "prepare --dataset=rstp --source={} --data_dir=d",
    "convert {} m",
    f"convert {MODEL} {{}}",
    "inspect {}",
    "index --model={} --images=. --db=g.db",
    f"index --model={MODEL} --images={{}} --db=g.db",
    "search --db={} man",
    "serve --db=g.db --audit_log={} --port=0",
    f"maps --model={MODEL} --image={{}} man --out=o.png",
    "forget --db={} --yes --ids 0123456789abcdef0123456789abcdef",
    "sample {}",
)
NO_PATHS = {"nobody's home": "~nosuchuser/x", "an address": "gs://bucket/x", "300 bytes": "n" * 300}


@pytest.mark.parametrize("place", PLACES)
def test_what_names_no_place_is_one_line(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # `inspect` sets it
    for kind, path in NO_PATHS.items():
        if kind == "300 bytes" and place.startswith("train"):
            continue  # the folder is made when the data is there
        assert commands.main(place.format(path).split()) == 2, kind
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1, said
        assert path.replace("//", "/") in said.replace("//", "/"), said
        assert not list(tmp_path.iterdir()), kind
