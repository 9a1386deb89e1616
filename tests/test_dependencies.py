"""Everything that is imported is declared: a fresh install has it."""

import ast
import importlib.metadata
import re
import sys
import tomllib

import pytest

from tests.conftest import REPOSITORY

OURS = {"cada_jax", "configs", "tests", "tools"}
# Imported name -> what is declared and brings it. It is a part of that, and asks for its version.
BROUGHT = {
    "google": "tensorflow",
    "huggingface_hub": "tokenizers",
    "ml_dtypes": "jax",
    "prometheus_client": "prometheus-fastapi-instrumentator",
    "pydantic": "fastapi",
    "starlette": "fastapi",
}
FILES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for folder in OURS
    for path in (REPOSITORY / folder).rglob("*.py")
)


def normal(name: str) -> str:
    """A distribution's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def declared():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    return {normal(re.match(r"[\w.-]+", text)[0]) for text in listed}


@pytest.fixture(scope="module")
def distributions():
    return importlib.metadata.packages_distributions()


def imported(source: str) -> set[str]:
    """Top names of everything that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - OURS


def undeclared(source: str, declared: set[str], distributions: dict) -> set[str]:
    """What a file imports although nothing that is declared brings it."""
    missing = set()
    for name in imported(source):
        brings = {normal(d) for d in distributions.get(name, [name])}
        if not brings & declared and BROUGHT.get(name) not in declared:
            missing.add(name)
    return missing


@pytest.mark.parametrize("file", FILES)
def test_what_a_file_imports_is_declared(file, declared, distributions):
    assert undeclared((REPOSITORY / file).read_text(), declared, distributions) == set()


def test_an_undeclared_import_is_noticed(declared, distributions):
    source = "import os\nfrom jax import numpy\ndef f():\n    import flask\n    import no_such"
    assert undeclared(source, declared, distributions) == {"flask", "no_such"}
