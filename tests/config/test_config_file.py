"""Configuration files of users: every mistake in one is one line that names file and line."""

import pytest

from cada_jax import config as config_lib
from cada_jax.common.errors import UsageError

HEAD = "from cada_jax.config import default_config\n\n\ndef get_config(variant=None):\n"


def written(tmp_path, text, name="own.py"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def message(argument):
    with pytest.raises(UsageError) as error:
        config_lib.load_config(argument)
    text = str(error.value)
    assert "\n" not in text and text.startswith("--config=")
    return text


def test_a_file_gives_its_configuration_and_takes_a_variant(tmp_path):
    path = written(
        tmp_path,
        HEAD + "    c = default_config()\n    c.seed = int(variant or 5)\n    return c\n",
        "lr[1e-3].txt",
    )
    assert config_lib.load_config(path).seed == 5
    assert config_lib.load_config(f"{path}:8").seed == 8


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("def get_config(:\n", "own.py, line 1: SyntaxError"),
        ("x = 1\n", "has no function get_config"),
        ("get_config = 3\n", "has no function get_config"),
        (HEAD + "    return {}['absent']\n", "own.py, line 5: KeyError: 'absent'"),
        (HEAD + "    return 1 / 0\n", "own.py, line 5: ZeroDivisionError"),
        (HEAD + "    open('/none')\n", "own.py, line 5: FileNotFoundError"),
        (HEAD + "    raise TypeError('a\\nb')\n", "own.py, line 5: TypeError: a"),
        (HEAD + "    raise RuntimeError\n", "own.py, line 5: RuntimeError: no message"),
        (HEAD + "    return get_config()\n", "RecursionError"),
        ("import sys\nsys.exit(0)\n", "own.py, line 2: SystemExit: 0"),
        ("import no_such_module\n", "own.py, line 1: ModuleNotFoundError"),
        (HEAD + "    default_config()\n", "get_config() returned None"),
        (HEAD + "    return {'train': {}}\n", "get_config() returned {'train': {}}"),
        (HEAD + "    c = default_config()\n    c.seed = 'a'\n", "own.py, line 6: TypeError"),
        (HEAD + "    c = default_config()\n    c.trian.x = 1\n", "own.py, line 6: AttributeError"),
        ("def get_config(a, b):\n    return a\n", "missing 2 required positional"),
        ("", "has no function get_config"),
        (b"\x00\x01\x02", "Expected a Python file"),
        (b"\xff\xfe\xfa", "Expected a Python file"),
        ('{"train": {"epochs": 3}, "x": true}', "own.py, line 1: NameError"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(tmp_path, text, part):
    assert part in message(written(tmp_path, text))


def test_what_is_no_file_is_one_line(tmp_path):
    assert "there is no such file" in message(str(tmp_path / "none.py"))
    assert "there is no such file" in message(written(tmp_path, "") + "/below.py")
    assert "is a folder" in message(str(tmp_path))
    assert "SyntaxError" in message("README.md")
    assert "longer than 255 bytes" in message("a" * 300)
    assert "longer than 4000 bytes" in message("a/" * 4100)
    assert "no user ~nouser" in message("~nouser/own.py")
    assert "control character" in message("a\0b")
    assert "it is empty" in message(":released")


def test_an_unknown_variant_lists_the_known_ones():
    with pytest.raises(
        UsageError, match="'tinny'.*scratch, pretrain, abroad, encoders, matched, crowd, tiny"
    ):
        config_lib.load_config("configs/synthetic.py:tinny")


def test_a_config_is_found_by_name_in_the_working_folder(monkeypatch, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").write_text(
        "from ml_collections import ConfigDict\n\n"
        "def get_config(variant='plain'):\n    return ConfigDict({'variant': variant})\n"
    )
    monkeypatch.chdir(tmp_path)
    assert config_lib.load_config("mine").variant == "plain"
    assert config_lib.load_config("mine:big").variant == "big"
    assert config_lib.load_config("configs/mine.py:big").variant == "big"
    assert config_lib.load_config("rstp:large").model.image.width == 1024  # beside the package
