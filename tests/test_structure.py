"""The house stays readable: few rooms, one idea a file, short functions, few parameters.

A file of 500 lines is an alarm: it holds two ideas, or one that should be told in fewer words.
"""

import ast
import pathlib
import subprocess

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "cada_jax"
FILES = sorted(
    p.relative_to(REPOSITORY).as_posix()
    for folder in ("cada_jax", "configs", "tools")
    for p in (REPOSITORY / folder).rglob("*.py")
)
MOST_ENTRIES, MOST_LINES, MOST_LINES_OF_FUNCTION, MOST_PARAMETERS = 18, 500, 60, 7


# The design card's, and the usual files beside them. What begins with a dot is not listed.
TOP = {"cada_jax", "configs", "tests", "tools", "pyproject.toml", "README.md"}
BESIDE = {"CHANGELOG.md", "LICENSE"}


def parameters(node: ast.FunctionDef) -> list[str]:
    """Names of what a caller gives, without self, cls and *args."""
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def long_functions(source: str) -> list[str]:
    """What is too long or takes too much in a file's text, a line each."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = node.end_lineno - node.lineno + 1
        if lines > MOST_LINES_OF_FUNCTION:
            found.append(f"{node.name} has {lines} lines")
        # Flax calls a module's __call__ with what the network needs; dataclasses list theirs.
        if len(parameters(node)) > MOST_PARAMETERS:
            found.append(f"{node.name} takes {len(parameters(node))} parameters")
    return found


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="an archive, not a clone")
def test_the_repository_holds_what_the_design_names_and_no_more():
    command = ["git", "-C", str(REPOSITORY), "ls-files"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    entries = {name.partition("/")[0] for name in listed}
    assert {name for name in entries if not name.startswith(".")} == TOP | BESIDE


def test_the_package_has_few_rooms():
    entries = [p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


@pytest.mark.parametrize("file", FILES)
def test_files_and_functions_are_short(file):
    source = (REPOSITORY / file).read_text()
    assert len(source.splitlines()) <= MOST_LINES
    assert not long_functions(source)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("def f():\n" + "    pass\n" * 60, "f has 61 lines"),
        ("def f(a, b, c, d, *, e, f, g, h): pass", "takes 8"),
        ("class A:\n    def f(self, a, b, c, d, e, f, g, h): pass", "takes 8"),
    ],
)
def test_what_is_too_long_is_noticed(source, part):
    assert part in long_functions(source)[0]


def test_what_is_just_short_enough_passes():
    assert not long_functions("class A:\n    def f(self, a, b, c, d, e, f, *g, **h): pass")
    assert pathlib.PurePosixPath("cada_jax/main.py").as_posix() in FILES
