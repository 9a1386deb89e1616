"""`python -m cada_jax`: its commands are there, are listed, and a wrong one is one line."""

import importlib.util
import subprocess
import sys
from importlib import metadata

import pytest

from cada_jax import __main__ as commands


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_of_the_table_is_there(name):
    module, line = commands.COMMANDS[name]
    assert importlib.util.find_spec(module.partition(":")[0]) is not None
    assert line and "\n" not in line and len(line) < 80


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_the_help_of_a_command_needs_no_library_and_names_the_command(name):
    code = f"""
import sys
from cada_jax import __main__ as commands
sys.argv = ["x", "{name}", "--help"]
status = commands.main()
heavy = {{"jax", "tensorflow", "orbax", "torch", "flax"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else status)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert f"python -m cada_jax {name}" in ran.stdout


def test_help_lists_every_command(capsys):
    assert commands.main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name, (_, line) in commands.COMMANDS.items():
        assert f"  {name:{max(map(len, commands.COMMANDS))}}  {line}" in printed


def test_version_is_the_installed_one(capsys):
    assert commands.main(["--version"]) == 0
    assert capsys.readouterr().out == f"cada_jax {metadata.version('cada_jax')}\n"


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["prepaer"], "did you mean 'prepare'?"),
        (["INSPECT"], "did you mean 'inspect'?"),
        (["--verson"], "did you mean '--version'?"),
        (["zzz"], "expected one of train, evaluate, prepare"),
        ([], "no command: expected one of train, evaluate, prepare"),
    ],
)
def test_an_unknown_command_is_one_line_with_what_is_meant(capsys, argv, hint):
    assert commands.main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and hint in printed.err
    assert printed.err.startswith("error: ")


def test_neither_the_help_nor_the_package_imports_a_library():
    code = "import sys, cada_jax, cada_jax.__main__ as m; m.main(['--help']); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = set(ran.stdout.split())
    assert not loaded & {"jax", "numpy", "tensorflow", "flax", "ml_collections", "absl"}
