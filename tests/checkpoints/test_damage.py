"""What is missing, cut or changed is one line that names the place, and `inspect` finds it."""

import pathlib
import shutil

import pytest

from cada_jax.checkpoints import commands, manifest, run
from cada_jax.common.errors import UsageError
from tests.checkpoints import saved
from tests.conftest import tiny_config_of_steps

STATE, BEST, MODEL = "checkpoints/2", "best/2", "model"
READERS = {STATE: saved.read_states, BEST: saved.read_best, MODEL: saved.read_model}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    saved.save_run(root, tiny_config_of_steps())
    return root


@pytest.fixture
def run_folder(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def _change_last_byte(path: pathlib.Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


CHANGES = {
    "deleted": pathlib.Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "changed": _change_last_byte,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("where", READERS)
def test_damage_of_any_file_is_one_line_and_verify_names_what_it_is(
    run_folder, where, change, capsys
):
    files = sorted(p for p in (run_folder / where).rglob("*") if p.is_file())
    for file in files:
        content = file.read_bytes()
        CHANGES[change](file)
        if not file.exists() or file.read_bytes() != content:
            # A model without its configuration is no model: the message says so.
            with pytest.raises(UsageError) as error:
                READERS[where](run_folder)
            assert str(run_folder / where) in str(error.value)
            assert len(str(error.value).splitlines()) == 1
            assert commands.inspect([str(run_folder), "--verify"]) == 1
            lines = capsys.readouterr().out.splitlines()
            assert len(lines) == 4
            for line in lines:
                assert ("damaged (" in line) == line.startswith(f"{run_folder / where}:"), line
        file.write_bytes(content)


def test_verify_gives_one_line_for_everything_that_was_saved(run_folder, capsys):
    assert commands.inspect([str(run_folder), "--verify"]) == 0
    names = ("checkpoints/1", "checkpoints/2", "best/2", "model")
    assert capsys.readouterr().out.splitlines() == [f"{run_folder / name}: ok" for name in names]


def test_damage_to_what_is_known_of_the_best_is_told_when_a_run_continues(run_folder):
    (run_folder / BEST / run.INFO_FILE).write_text("")
    with pytest.raises(UsageError, match="best/2 is damaged .*info.json"):
        saved.read_states(run_folder)


def test_a_model_may_be_replaced_only_if_every_file_in_it_is_ours(run_folder):
    assert manifest.holds_nothing_else(run_folder / MODEL)
    deep = run_folder / MODEL / "params" / "d" / "thesis.tex"
    deep.write_text("years")
    assert not manifest.holds_nothing_else(run_folder / MODEL)
    saved.read_model(run_folder)  # it does no harm there
    deep.unlink()
    (run_folder / MODEL / manifest.MANIFEST_FILE).write_text('{"name": "a web page"}')
    assert not manifest.holds_nothing_else(run_folder / MODEL)


def test_another_provenance_is_refused_and_named(run_folder):
    for ours, differs in (({"data_digest": "bb", "new": 1}, True), ({"data_digest": "aa"}, False)):
        with run.Checkpoints(run_folder, provenance=ours) as checkpoints:
            if differs:
                with pytest.raises(UsageError, match="data_digest: aa there, bb now"):
                    checkpoints.restore(saved.abstract(saved.state()))
                with pytest.raises(UsageError, match="data_digest: aa there, bb now"):
                    checkpoints.restore_best(saved.abstract(saved.state()["params"]))
            else:
                checkpoints.restore(saved.abstract(saved.state()))


@pytest.mark.parametrize("name", ["lr[1e-3]", "a*", "[!a]", "**", "100% #1 Größe a:b{c}"])
def test_any_name_of_a_workdir_works(tmp_path, tiny_config, name):
    root = tmp_path / name
    root.mkdir()
    (tmp_path / "ab" / "checkpoints").mkdir(parents=True)  # what "a*" would match
    saved.save_run(root, tiny_config, steps=(1,))
    for read in READERS.values():
        read(root)
    assert commands.inspect([str(root), "--verify"]) == 0
