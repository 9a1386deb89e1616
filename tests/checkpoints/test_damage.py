"""Files that are missing, empty, cut or of another kind are one reason, and `inspect` finds it."""

import os
import pathlib
import shutil

import pytest

from cada_jax.checkpoints import command, export, manager, verify
from cada_jax.common.errors import UsageError
from tests.checkpoints import saved


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    from tests.conftest import tiny_config_of_steps

    root = tmp_path_factory.mktemp("whole")
    saved.save_run(root, tiny_config_of_steps())
    return root


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def _delete(path: pathlib.Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _half_of_every_data_file(path: pathlib.Path) -> None:
    for file in path.rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _empty_folder(path: pathlib.Path) -> None:
    for below in path.iterdir():
        _delete(below)


CHANGES = {
    "deleted": _delete,
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a list": lambda path: path.write_text("[1]"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
}
STATE, BEST, MODEL = "checkpoints/2", "best/2", "model"
CASES = [
    (where, file, change)
    for where, files in {
        STATE: ("digests/process_0.json", "state/_METADATA", "state/manifest.ocdbt"),
        BEST: ("digests/process_0.json", "info/metadata", "params/_METADATA"),
        MODEL: (export.MARK_FILE, "config.json", "vocab.txt", "params/manifest.ocdbt"),
    }.items()
    for file in files
    for change in CHANGES
    if (file, change) != (export.MARK_FILE, "deleted")  # as older versions left a model
] + [
    (STATE, "_CHECKPOINT_METADATA", "a list"),
    (STATE, "state", "deleted"),
    (STATE, "digests", "deleted"),
    (BEST, "params", "deleted"),
    (BEST, "info", "deleted"),
    (MODEL, "params", "deleted"),
]
READERS = {
    STATE: saved.read_states,
    BEST: saved.read_best,
    MODEL: saved.read_model,
}


@pytest.mark.parametrize(("where", "file", "change"), CASES)
def test_damage_is_one_reason_that_names_the_place(run, capfd, where, file, change):
    CHANGES[change](run / where / file)
    with pytest.raises(UsageError) as error:
        READERS[where](run)
    text = str(error.value)
    assert len(text.splitlines()) <= 3 and str(run / where) in text.splitlines()[0]
    assert "Traceback" not in text and "None" not in text
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("where", READERS)
@pytest.mark.parametrize("damage", [_half_of_every_data_file, _empty_folder])
def test_half_of_the_data_and_an_empty_folder_are_named_too(run, where, damage):
    damage(run / where)
    with pytest.raises(UsageError, match=str(run / where)) as error:
        READERS[where](run)
    assert len(str(error.value).splitlines()) <= 3


def test_damage_to_what_is_known_of_the_best_is_told_when_a_run_continues(run):
    (run / BEST / "info" / "metadata").write_text("")
    with pytest.raises(UsageError, match="best/2 cannot be read: info/metadata"):
        saved.read_states(run)


def test_the_tracebacks_of_the_library_are_in_the_file_that_is_named(run):
    _half_of_every_data_file(run / STATE)
    with pytest.raises(UsageError, match=f"What the library said is in {run / 'log.txt'}"):
        saved.read_states(run)
    assert "Traceback" in (run / "log.txt").read_text()


def test_verify_gives_one_line_for_everything_that_was_saved(run, capsys):
    assert command.main([str(run), "--verify"]) == 0
    names = ("checkpoints/1", "checkpoints/2", "best/2", "model")
    assert capsys.readouterr().out.splitlines() == [f"{run / name}: ok" for name in names]


@pytest.mark.parametrize(("where", "file", "change"), CASES)
def test_verify_names_what_is_damaged_and_that_the_rest_is_not(run, capsys, where, file, change):
    if file in ("_CHECKPOINT_METADATA", "params") and where != BEST:
        pytest.skip("not looked at, or no longer a model")
    CHANGES[change](run / where / file)
    assert command.main([str(run), "--verify"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert ("damaged (" in line) == line.startswith(f"{run / where}:"), line


def test_one_changed_array_is_named(run):
    damaged = saved.state(2)
    params = damaged["params"]
    params["image"]["bias"] = params["image"]["bias"].at[3].set(1e-7)
    with manager.Checkpoints(run / "other") as other:
        other.save(2, damaged)
    shutil.rmtree(run / STATE / "state")
    shutil.move(run / "other" / STATE / "state", run / STATE / "state")
    with pytest.raises(UsageError, match="checkpoints/2 cannot be read: its values .*image/bias"):
        saved.read_states(run)
    found = {f.folder.relative_to(run).as_posix(): f.damage for f in verify.verify(run)}
    assert found.pop(STATE).endswith("in params/image/bias") and not any(found.values())


def test_what_an_older_version_saved_is_read_and_verify_says_so(run, capsys):
    for where in ("checkpoints/1", STATE, BEST):
        shutil.rmtree(run / where / "digests")
        metadata = run / where / "_CHECKPOINT_METADATA"
        metadata.write_text(metadata.read_text().replace('"digests"', '"other"'))
    (run / MODEL / export.MARK_FILE).unlink()
    for read in READERS.values():
        read(run)
    assert export.is_exported(run / MODEL)
    assert command.main([str(run), "--verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(line.endswith(": no digest stored") for line in lines)


def test_nothing_to_verify_is_one_line(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "none", tmp_path / "checkpoints" / "5"):
        assert command.main([str(path), "--verify"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_another_provenance_is_refused_and_named(run):
    for ours, differs in (({"data_digest": "bb", "new": 1}, True), ({"data_digest": "aa"}, False)):
        with manager.Checkpoints(run, provenance=ours) as checkpoints:
            for restore in (
                lambda c=checkpoints: c.restore(saved.abstract(saved.state())),
                lambda c=checkpoints: c.restore_best(saved.abstract(saved.state()["params"])),
            ):
                if differs:
                    with pytest.raises(UsageError, match="data_digest: aa there, bb now"):
                        restore()
                else:
                    restore()


def test_an_edited_vocabulary_is_refused_and_new_line_ends_are_not(run):
    vocab = run / MODEL / "vocab.txt"
    vocab.write_bytes(vocab.read_bytes().replace(b"\n", b"\r\n"))
    saved.read_model(run)
    vocab.write_bytes(vocab.read_bytes().replace(b"red", b"sad"))
    with pytest.raises(UsageError, match=r"vocab.txt: expected the file as it was exported"):
        saved.read_model(run)


NAMES = ("lr[1e-3]", "a*", "[!a]", "what?", "**", "two words", "100%", "#1", "Größe-尺寸", "a:b{c}")


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_workdir_works(tmp_path, tiny_config, name):
    root = tmp_path / name
    root.mkdir()
    (tmp_path / "ab" / "checkpoints").mkdir(parents=True)  # what "a*" would match
    saved.save_run(root, tiny_config, steps=(1,))
    for read in READERS.values():
        read(root)
    assert command.main([str(root), "--verify"]) == 0


def test_a_back_slash_is_refused(tmp_path, tiny_config):
    with pytest.raises(UsageError, match="without a back-slash"):
        export.save_model(tmp_path / "a\\b", {}, tiny_config, os.devnull)
