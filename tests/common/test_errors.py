"""Readers of foreign formats: whatever goes wrong within is one error with the path."""

import os

import pytest

from cada_jax.common.errors import MissingFileError, UsageError, reading
from cada_jax.common.files import read_bytes, read_json


@pytest.mark.parametrize("error", [KeyError("size"), OSError(5, "Input/output error"), ValueError])
def test_whatever_a_library_raises_names_the_file_and_what_was_expected(error):
    with pytest.raises(UsageError, match="^a.npz: expected a gallery; it cannot be read"):
        with reading("a.npz", "a gallery"):
            raise error


def test_errors_of_ours_pass_as_they_are():
    with pytest.raises(UsageError, match="^mine$"), reading("a.npz", "a gallery"):
        raise UsageError("mine")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "large"])
def test_only_ordinary_files_of_a_bounded_size_are_read(tmp_path, kind):
    path = tmp_path / "boxes"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # nobody writes into it: opened as usual, it would wait for ever
    elif kind == "large":
        path.write_bytes(b"x" * 101)
    with pytest.raises(MissingFileError if kind == "missing" else UsageError, match=str(path)):
        read_bytes(path, "a list of boxes", most=100)


def test_json_that_is_cut_names_the_file(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text('{"images": [1, 2')
    with pytest.raises(UsageError, match=f"{path}: expected boxes in JSON; it cannot be read"):
        read_json(path, "boxes")
