"""The table of the full-size programs: which setting is shown, and what is compiled only once."""

import json
import pathlib

import pytest

from cada_jax.config import load_config
from tools.device import few_layers, table
from tools.device.memory import GIB

ROW = table.Row("ViT-B", "rstp", "v5e:2x4")


def found(fits: bool, refused: bool = False) -> dict:
    """What `tools.device.compile --json` reports of a program."""
    memory = {"inputs": 4 * GIB, "running": 3 * GIB, "needed": 20 * GIB, "refused": refused}
    return {
        "memory": memory,
        "fits": fits,
        "chip": "TPU v5e",
        "devices": 8,
        "items": 120,
        "ideal_ms": 30.0,
        "estimate": None if refused else {"ms": 90.0, "share_of_product": 0.38},
        "collective_bytes": {"all-reduce": 2e9},
    }


@pytest.mark.parametrize(
    ("fitting", "shown", "asked"),
    [("off", "off", 1), ("light", "light", 2), ("full", "full", 3), ("none", "full", 3)],
)
def test_the_first_setting_that_fits_is_shown(tmp_path, fitting, shown, asked):
    tried = []

    def get(row, remat, place):
        tried.append(remat)
        return found(remat == fitting, refused=remat != fitting)

    remat, values = table.smallest(ROW, tmp_path, get)
    assert (remat, len(tried)) == (shown, asked)
    assert values["fits"] is (fitting != "none")


def test_what_was_compiled_is_not_compiled_again(tmp_path, monkeypatch):
    ran = []

    def run(command, **options):
        ran.append(command)
        return type("Done", (), {"returncode": 0, "stdout": json.dumps([found(True)])})

    monkeypatch.setattr(table.subprocess, "run", run)
    first = table.compile_row(ROW, "off", tmp_path)
    assert table.compile_row(ROW, "off", tmp_path) == first
    assert len(ran) == 1 and "--device=v5e:2x4" in ran[0]
    assert table.kept(ROW, "off", tmp_path) == first
    assert table.kept(ROW, "light", tmp_path) is None
    assert [p.suffix for p in tmp_path.iterdir()] == [".json"]


def test_a_row_that_failed_is_said_and_tried_again(tmp_path, monkeypatch, capsys):
    def run(command, **options):
        return type("Done", (), {"returncode": 2, "stdout": "", "stderr": "error: no libtpu\n"})

    monkeypatch.setattr(table.subprocess, "run", run)
    assert table.main([f"--folder={tmp_path}", "--only=ViT-B v5e"]) == 1
    printed = capsys.readouterr()
    assert "error: no libtpu" in printed.err and table.HEAD in printed.out
    assert not list(tmp_path.iterdir())


def test_a_line_has_a_cell_for_every_heading(tmp_path):
    columns = table.HEAD.splitlines()[0].count("|")
    for values in (found(True), found(False), found(False, refused=True)):
        assert table.line(ROW, "light", values).count("|") == columns
    assert "refused, 20.0" in table.line(ROW, "off", found(False, refused=True))
    assert "4.0 + 3.0" in table.line(ROW, "off", found(True))


def test_every_row_gives_a_command_that_fits_its_devices():
    from tests.tools.device.test_compile import flags_of
    from tools.device import compile as compile_lib
    from tools.device.topology import find_target

    assert len(table.rows()) == 14
    for row in table.rows():
        flags, target = flags_of(*row.command("light")), find_target(row.device)
        flags.mesh = (target.devices, 1, 1)
        config = compile_lib.read_config(flags, target)
        assert config.train.batch_size % target.devices == 0
        assert config.model.remat == "light"


def report_of(image: int, text: int, **changes) -> dict:
    """A report that grows by fixed amounts with the layers."""
    ideal, ms = 1.0 + 2.0 * image + 3.0 * text, 5.0 + 4.0 * image + 7.0 * text
    memory = {"inputs": 100 + 10 * image + 20 * text, "running": 50 + 5 * image + text}
    return (
        found(True)
        | {
            "memory": memory | {"needed": 0, "refused": False, "total": sum(memory.values())},
            "flops_a_device": 2e9 * ideal,
            "ideal_ms": ideal,
            "estimate": {"ms": ms, "share_of_product": 1.25 * ideal / ms, "by_kind": {}},
            "collective_bytes": {"all-reduce": 1e6 * (image + text)},
        }
        | changes
    )


@pytest.mark.parametrize(("image", "text"), [(2, 2), (12, 12), (24, 12), (12, 24)])
def test_a_few_layers_carried_on_are_the_whole_where_layers_are_alike(image, text):
    reports = [report_of(*depths) for depths in few_layers.depths(image, text)]
    whole, wanted = few_layers.carry_on(reports, image, text, 1e9), report_of(image, text)
    for name in ("memory", "flops_a_device", "ideal_ms", "collective_bytes", "fits"):
        assert whole[name] == pytest.approx(wanted[name]), name
    for name in ("ms", "share_of_product"):
        assert whole["estimate"][name] == pytest.approx(wanted["estimate"][name])


def test_what_is_carried_on_fits_by_its_own_size_and_not_by_that_of_a_few_layers():
    reports = [report_of(*depths) for depths in few_layers.depths(12, 12)]
    most = report_of(12, 12)["memory"]["total"]
    assert reports[1]["memory"]["total"] < most
    assert few_layers.carry_on(reports, 12, 12, most)["fits"]
    assert not few_layers.carry_on(reports, 12, 12, most - 1)["fits"]


def test_a_few_layers_that_were_refused_refuse_the_whole():
    reports = [report_of(*depths) for depths in few_layers.depths(12, 12)]
    reports[1] = found(False, refused=True)
    assert few_layers.carry_on(reports, 12, 12, 1e9)["memory"]["refused"]


def test_a_program_that_was_compiled_whole_is_preferred(tmp_path):
    asked = []

    def get(row, remat, place):
        asked.append(row.layers)
        return report_of(*row.layers)

    carried = table.from_few_layers(ROW, "off", tmp_path, get)
    assert asked == [(2, 2), (4, 4)] and "2 and 4 layers" in table.line(ROW, "off", carried)
    ROW.file(tmp_path, "off").write_text(json.dumps(found(True)), encoding="utf-8")
    whole = table.from_few_layers(ROW, "off", tmp_path, get)
    assert whole == found(True) and len(asked) == 2
    assert "| whole |" in table.line(ROW, "off", whole)


def test_the_few_layers_are_those_of_the_configuration():
    for name, config in table.CONFIGS.items():
        model = load_config(config).model
        assert table.LAYERS[name] == (model.image.depth, model.text.depth)
    few = ROW._replace(layers=(2, 4))
    assert {"model.image.depth=2", "model.text.depth=4"} <= set(few.command("off"))
    assert few.file(pathlib.Path(), "off") != ROW.file(pathlib.Path(), "off")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "--folder"),
        (["--folder=/proc/no/such"], "/proc"),
        (["--folder=x", "--only=v4"], "no row has that"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(argv, says, capsys):
    assert table.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error
