"""The layer table: a package imports only from packages in lower rows.

`MAY_IMPORT` is the one place that states it. A module at the top of the package counts as a package
of its own. What is not in the table fails: give it the packages it needs, and no more.
"""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "cada_jax"

_BASE = {"common", "config"}
# Package -> the packages that it may import besides itself, lowest row first.
MAY_IMPORT = {
    "common": set(),
    "config": {"common"},
    "distributed": _BASE,
    "text": _BASE,
    "data": _BASE | {"text"},
    "models": _BASE | {"distributed", "text"},
    "network": _BASE | {"distributed", "text", "models"},
    "objective": _BASE | {"distributed", "text", "models"},
    "checkpoints": _BASE | {"distributed", "text", "models"},
    "retrieval": _BASE | {"distributed", "text", "models", "network"},
}
MAY_IMPORT["retriever"] = MAY_IMPORT["retrieval"] | {"checkpoints", "retrieval"}
MAY_IMPORT["evaluation"] = MAY_IMPORT["retriever"] | {"retriever", "data"}
MAY_IMPORT["gallery"] = MAY_IMPORT["retriever"] | {"retriever"}
MAY_IMPORT["training"] = MAY_IMPORT["evaluation"] | {"evaluation", "objective"}
MAY_IMPORT["main"] = MAY_IMPORT["__main__"] = set(MAY_IMPORT)

# These run on an accelerator machine that has JAX, Flax, Optax, Orbax and einops only.
CORE = {
    "common",
    "config",
    "distributed",
    "models",
    "network",
    "objective",
    "retrieval",
    "retriever",
    "training/optimizer",
    "training/train_step",
}
NOT_IN_CORE = {"tensorflow", "tensorflow_datasets", "clu", "torch", "transformers"}
# TensorFlow's one room.
TENSORFLOW = {"tensorflow", "tensorflow_datasets"}
# The web server's one room, which `serve` alone imports.
WEB = {"fastapi", "starlette", "pydantic", "python_multipart"}
# Imported inside functions only, so that the rest runs without them.
OPTIONAL = {
    *("torch", "transformers", "safetensors", "nltk", "textblob", "matplotlib"),
    *("pymilvus", "uvicorn", "watchfiles"),
}


def _package(relative: str) -> str:
    """The package below cada_jax that a file belongs to: "models" of "models/vit.py"."""
    return pathlib.PurePosixPath(relative).parts[0].removesuffix(".py")


def _imports(source: str) -> list[tuple[str, bool]]:
    """(dotted module, whether at the top of the file) of every import statement in `source`."""
    found = []

    def visit(node: ast.AST, top: bool):
        if isinstance(node, ast.Import):
            found.extend((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports inside the package are written in full"
            found.append((node.module, top))
            # `from cada_jax import losses` names a module, `from x.y import name` maybe only x.y.
            if node.module == "cada_jax":
                found.extend((f"cada_jax.{alias.name}", top) for alias in node.names)
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, top and not inner)

    visit(ast.parse(source), True)
    return found


def _violations(relative: str, source: str) -> list[str]:
    """What `source`, were it the file `relative` below cada_jax, imports against the table."""
    package = _package(relative)
    core = any(relative.startswith((f"{entry}/", f"{entry}.py")) for entry in CORE)
    problems = []
    for module, top in _imports(source):
        root, *rest = module.split(".")
        if core and root in NOT_IN_CORE:
            problems.append(f"{relative} belongs to the core and imports {root}")
        if root in TENSORFLOW and package != "data":
            problems.append(f"{relative} imports {root}; only cada_jax/data may")
        if root in WEB and not relative.startswith("gallery/web/"):
            problems.append(f"{relative} imports {root}; only cada_jax/gallery/web may")
        if root in OPTIONAL and top:
            problems.append(
                f"{relative} imports {root} at its top: do it inside the function that needs it"
            )
        if root != "cada_jax" or not rest or rest[0] == package:
            continue
        if rest[0] not in MAY_IMPORT[package]:
            problems.append(f"{relative}: {package} may not import {rest[0]}")
    return problems


def _files() -> list[str]:
    return sorted(p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("relative", [f for f in _files() if f != "__init__.py"])
def test_imports_follow_the_table(relative):
    assert _package(relative) in MAY_IMPORT, (
        f"{relative} is in no package of MAY_IMPORT in {pathlib.Path(__file__).name}: put it into "
        "one, or add a row there and to the map in the README"
    )
    problems = _violations(relative, (PACKAGE / relative).read_text())
    assert not problems, "\n".join(problems)


def test_the_table_names_packages_that_exist():
    there = {_package(relative) for relative in _files()}
    assert not set(MAY_IMPORT) - there


def test_rows_form_an_order():
    """No two packages may import each other, directly or around."""
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        ready = {p for p, needs in MAY_IMPORT.items() if needs - {"main", "__main__"} <= done}
        assert ready - done, f"a cycle among {sorted(set(MAY_IMPORT) - done)}"
        done |= ready


@pytest.mark.parametrize(
    ("relative", "source", "part"),
    [
        ("objective/losses.py", "import tensorflow as tf", "core"),
        ("evaluation/run.py", "import tensorflow as tf", "only cada_jax/data"),
        ("models/vit.py", "from cada_jax.objective import losses", "may not import objective"),
        ("retrieval/rank.py", "def f():\n    from cada_jax import evaluation", "evaluation"),
        ("checkpoints/torch/convert.py", "import torch", "inside the function"),
    ],
)
def test_a_forbidden_import_is_noticed(relative, source, part):
    problems = _violations(relative, source)
    assert problems and part in problems[0]
