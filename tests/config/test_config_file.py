"""Configuration files of users: every mistake in one is one line that names file and line."""

import pytest

from cada_jax import config as config_lib
from cada_jax.common.errors import UsageError

HEAD = "from cada_jax.config import default_config\n\n\ndef get_config(variant=None):\n"


def test_a_file_gives_its_configuration_and_takes_a_variant(tmp_path):
    path = tmp_path / "lr[1e-3].txt"
    path.write_text(
        HEAD + "    c = default_config()\n    c.seed = int(variant or 5)\n    return c\n"
    )
    assert config_lib.load_config(str(path)).seed == 5
    assert config_lib.load_config(f"{path}:8").seed == 8


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("def get_config(:\n", "own.py, line 1: SyntaxError"),
        ("x = 1\n", "has no attribute 'get_config'"),
        ("import sys\nsys.exit(0)\n", "own.py, line 2: SystemExit: 0"),
        (HEAD + "    default_config()\n", "get_config() returned None"),
        (HEAD + "    c = default_config()\n    c.seed = 'a'\n", "own.py, line 6: TypeError"),
        ("\0", "expected a Python file"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(tmp_path, text, part):
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        config_lib.load_config(str(path))
    said = str(error.value)
    assert "\n" not in said and said.startswith(f"--config={path}: ") and part in said


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("configs/rtsp.py", "did you mean rstp?"),
        ("configs", "there is no such file"),
        ("configs/synthetic.py:tinny", "scratch, pretrain, abroad, encoders, matched"),
    ],
)
def test_what_is_no_configuration_is_one_line(name, part):
    with pytest.raises(UsageError) as error:
        config_lib.load_config(name)
    assert "\n" not in str(error.value) and part in str(error.value)


def test_a_config_is_found_here_and_by_its_name_and_among_those_of_the_project(
    monkeypatch, tmp_path
):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text(
        "from ml_collections import ConfigDict\n\n"
        "def get_config(variant='plain'):\n    return ConfigDict({'variant': variant})\n"
    )
    monkeypatch.chdir(tmp_path)
    assert config_lib.load_config("mine").variant == "plain"
    assert config_lib.load_config("configs/mine.py:big").variant == "big"
    for name in ("rstp:large", "configs/rstp.py:large"):
        assert config_lib.load_config(name).model.image.width == 1024
