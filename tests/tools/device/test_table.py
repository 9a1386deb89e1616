"""The table of the full-size programs: which setting is shown, and what is compiled only once."""

import json
import pathlib

import pytest

from cada_jax.config import load_config
from tools.arguments import Parser
from tools.device import compile as compile_lib
from tools.device import table
from tools.device.estimate import WAITING
from tools.device.memory import GIB
from tools.device.topology import find_target

ROW = table.Row("ViT-B", "v5e:2x4")
OFF = table.REMATS[0]


def found(fits: bool, refused: bool = False) -> dict:
    """What `tools.device.compile --json` reports of a program."""
    return {
        "memory": {"inputs": 4 * GIB, "running": 3 * GIB, "needed": 20 * GIB, "refused": refused},
        "fits": fits,
        "chip": "TPU v5e",
        "devices": 8,
        "items": 120,
        "ideal_ms": 30.0,
        "estimate": None if refused else {"ms": 90.0, "share_of_product": 0.38, "kinds_ms": {}},
        "collective_bytes": {"all-reduce": 2e9},
    }


@pytest.mark.parametrize(("fitting", "shown"), [(0, 0), (2, 2), (9, 2)])
def test_the_first_setting_that_fits_is_shown_or_the_last(tmp_path, fitting, shown):
    tried = []

    def get(row, settings, place):
        tried.append(settings)
        return found(len(tried) > fitting, refused=len(tried) <= fitting)

    settings, values = table.first_that_fits(ROW, tmp_path, get)
    assert settings == table.REMATS[shown] and len(tried) == shown + 1
    assert values["fits"] is (fitting < 9)


def test_what_was_compiled_is_not_compiled_again(tmp_path, monkeypatch):
    ran = []

    def run(command, **options):
        ran.append(command)
        return type("Done", (), {"returncode": 0, "stdout": json.dumps([found(True)])})

    monkeypatch.setattr(table.subprocess, "run", run)
    first = table.compile_row(ROW, OFF, tmp_path)
    assert table.compile_row(ROW, OFF, tmp_path) == first == table.kept(ROW, OFF, tmp_path)
    assert len(ran) == 1 and "--device=v5e:2x4" in ran[0]
    assert table.kept(ROW, table.REMATS[1], tmp_path) is None
    assert [p.suffix for p in tmp_path.iterdir()] == [".json"]


def test_a_row_that_failed_is_said_and_tried_again(tmp_path, monkeypatch, capsys):
    def run(command, **options):
        return type("Done", (), {"returncode": 2, "stdout": "", "stderr": "error: no libtpu\n"})

    monkeypatch.setattr(table.subprocess, "run", run)
    assert table.main([f"--folder={tmp_path}", "--only=ViT-B v5e"]) == 1
    assert "error: no libtpu" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_row_gives_a_command_that_fits_its_devices():
    parser = Parser("tools.device.compile", None)
    compile_lib.add_flags(parser)
    for row in table.rows():
        for settings in table.DEVICES[row.device]:
            flags = parser.flags(row.command(settings))
            config = compile_lib.read_config(flags, find_target(row.device))
            chunk = flags.mesh[0] * config.train.accumulation
            assert config.train.batch_size % chunk == 0, row
    for name, config in table.CONFIGS.items():
        model = load_config(config).model
        assert table.LAYERS[name] == (model.image.depth, model.text.depth)


def report_of(image: int, text: int) -> dict:
    """A report that grows by fixed amounts with the layers."""
    ideal, ms = 1.0 + 2.0 * image + 3.0 * text, 5.0 + 4.0 * image + 7.0 * text
    memory = {"inputs": 100 + 10 * image + 20 * text, "running": 50 + 5 * image + text}
    return found(True) | {
        "memory": memory | {"needed": 0, "refused": False},
        "ideal_ms": ideal,
        "estimate": {
            "ms": ms,
            "share_of_product": 1.25 * ideal / ms,
            "kinds_ms": {WAITING: 2 * image},
        },
        "collective_bytes": {"all-reduce": 1e6 * (image + text)},
    }


@pytest.mark.parametrize("model", table.LAYERS)
def test_a_few_layers_carried_on_are_the_whole_where_layers_are_alike(tmp_path, model):
    row, asked = ROW._replace(model=model), []

    def get(row, settings, place):
        asked.append(row.layers)
        return report_of(*row.layers)

    whole, wanted = table.from_few_layers(row, OFF, tmp_path, get), report_of(*table.LAYERS[model])
    for name in ("ideal_ms", "collective_bytes", "fits"):
        assert whole[name] == pytest.approx(wanted[name]), name
    for group, name in (
        ("memory", "running"),
        ("estimate", "ms"),
        ("estimate", "share_of_product"),
        ("estimate", "kinds_ms"),
    ):
        assert whole[group][name] == pytest.approx(wanted[group][name])
    assert "2 and 4 layers" in table.line(row, OFF, whole)
    assert len(asked) == (2 if model == "ViT-B" else 3)
    # A program that was compiled whole is preferred.
    row.file(tmp_path, OFF).write_text(json.dumps(found(True)), encoding="utf-8")
    assert table.from_few_layers(row, OFF, tmp_path, get) == found(True)
    assert row.file(pathlib.Path(), OFF) != row._replace(layers=(2, 2)).file(pathlib.Path(), OFF)
