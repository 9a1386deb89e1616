"""The table of the full-size programs: which setting is shown, and what is compiled only once."""

import json

import pytest

from tools.device import table
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
