"""The layer table: a file imports only from files with a lower number.

`LAYERS` is the one place that states it. A file that the table does not know fails; give it the
number above everything it imports, and the lowest one that is true.
"""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "cada_jax"

# Files and folders below cada_jax. A folder is one entry when its files belong together: they may
# import each other, and everything else counts them as one.
LAYERS = {
    "errors.py": 0,
    "metrics.py": 0,
    "lengths.py": 0,
    "losses.py": 0,
    "optimizer.py": 0,
    "sharding.py": 0,
    "augment.py": 0,
    "masking.py": 0,
    "packing.py": 0,
    "posembed.py": 0,
    "progress.py": 0,
    "retrieval_picture.py": 0,
    "runtime.py": 0,
    "torch_names.py": 0,
    "trees.py": 0,
    "models/layers.py": 0,
    "accumulate.py": 1,
    "models/vit.py": 1,
    "models/bert.py": 1,
    "text/tokenizer.py": 1,
    "torch_files.py": 1,
    "workdir.py": 1,
    "models/cada.py": 2,
    "text/attributes.py": 2,
    "torch_convert.py": 3,
    "checkpoints.py": 3,
    "data/example.py": 0,
    "data/features.py": 3,
    "data/shards.py": 0,
    "data/reading.py": 3,
    "data/source.py": 4,
    "data/records.py": 4,
    "data/datasets": 5,
    "initialize.py": 4,
    "hosts.py": 2,
    "inspection.py": 4,
    "objective.py": 3,
    "chunked_objective.py": 4,
    "train_step.py": 5,
    "retrieval.py": 4,
    "reranking.py": 5,
    "scoring.py": 6,
    "report.py": 7,
    "visualize.py": 4,
    "data/prepare.py": 6,
    "data/input_pipeline.py": 7,
    "data/mixture.py": 8,
    "evaluate.py": 8,
    "loop.py": 8,
    "best_on_test.py": 2,
    "cross_domain.py": 9,
    "train.py": 10,
    "main.py": 11,
}

# These run on an accelerator machine that has JAX, Flax, Optax, einops and ml_collections only.
CORE = {
    "accumulate.py",
    "chunked_objective.py",
    "objective.py",
    "errors.py",
    "metrics.py",
    "lengths.py",
    "losses.py",
    "optimizer.py",
    "sharding.py",
    "augment.py",
    "masking.py",
    "packing.py",
    "posembed.py",
    "trees.py",
    "models/layers.py",
    "models/vit.py",
    "models/bert.py",
    "models/cada.py",
    "train_step.py",
    "retrieval.py",
    "reranking.py",
}
NOT_IN_CORE = {"tensorflow", "tensorflow_datasets", "clu", "torch", "transformers"}
TORCH = {"torch", "transformers", "safetensors"}


def _entry(relative: str) -> str | None:
    """The key of LAYERS that holds the file or folder `relative`, or None."""
    path = pathlib.PurePosixPath(relative)
    for candidate in (path, *path.parents):
        if str(candidate) in LAYERS:
            return str(candidate)
    return None


def _target(module: str) -> str | None:
    """The key of LAYERS that the imported `cada_jax.a.b.c` belongs to, None if it is in none."""
    relative = "/".join(module.split(".")[1:])
    return _entry(f"{relative}.py") or _entry(relative)


def _imports(source: str, relative: str = "x.py") -> list[tuple[str, bool]]:
    """(dotted module, whether at the top of the file) of every import statement in `source`."""
    found = []

    def visit(node: ast.AST, top: bool):
        if isinstance(node, ast.Import):
            found.extend((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = pathlib.PurePosixPath("cada_jax", relative).parts[: -node.level]
                base = ".".join([*parents, *([base] if base else [])])
            # `from cada_jax import losses` names a file, `from x.y import name` maybe only x.y.
            found.append((base, top))
            if base.split(".")[0] == "cada_jax":
                found.extend((f"{base}.{alias.name}", top) for alias in node.names)
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, top and not inner)

    visit(ast.parse(source), True)
    return found


def _violations(relative: str, source: str) -> list[str]:
    """What `source`, were it the file `relative`, imports against the table."""
    entry = _entry(relative)
    problems = []
    for module, top in _imports(source, relative):
        root = module.split(".")[0]
        if entry in CORE and root in NOT_IN_CORE:
            problems.append(f"{relative} belongs to the core and imports {root}")
        if root in TORCH and top:
            problems.append(
                f"{relative} imports {root} at its top: do it inside the function that needs it"
            )
        other = _target(module) if root == "cada_jax" else None
        if other and other != entry and LAYERS[other] >= LAYERS[entry]:
            problems.append(
                f"{relative} (layer {LAYERS[entry]}) imports {other} (layer {LAYERS[other]}); "
                "only lower layers may be imported"
            )
    return problems


def _files() -> list[str]:
    return sorted(p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("relative", _files())
def test_imports_follow_the_layers(relative):
    source = (PACKAGE / relative).read_text()
    if relative.endswith("__init__.py") and _entry(relative) is None:
        assert not _imports(source), f"{relative}: an __init__.py imports nothing"
        return
    assert _entry(relative) is not None, (
        f"cada_jax/{relative} is not in LAYERS of {pathlib.Path(__file__).name}: add it there with "
        "the lowest number above everything it imports, and to the table in the README"
    )
    problems = _violations(relative, source)
    assert not problems, "\n".join(problems)


def test_the_table_names_files_that_exist():
    missing = [name for name in LAYERS if not (PACKAGE / name).exists()]
    assert not missing, f"LAYERS of {pathlib.Path(__file__).name} names no file: {missing}"


@pytest.mark.parametrize(
    ("relative", "source", "part"),
    [
        ("losses.py", "import tensorflow as tf", "core"),
        ("losses.py", "from cada_jax import train_step", "layer 5"),
        ("models/vit.py", "from cada_jax.models import bert", "layer 1"),
        ("models/bert.py", "def f():\n    from .cada import CADA", "layer 2"),
        ("torch_convert.py", "import torch", "inside the function"),
    ],
)
def test_a_forbidden_import_is_noticed(relative, source, part):
    problems = _violations(relative, source)
    assert problems and part in problems[0]


def test_allowed_imports_pass():
    source = "import jax\nfrom cada_jax.models import layers\nfrom cada_jax import metrics"
    assert not _violations("models/cada.py", source)
    assert not _violations("torch_convert.py", "def read():\n    import torch")
