"""What `pip install '.[search]'` brings is enough to search: nothing there asks for TensorFlow."""

import subprocess
import sys

import pytest

from tests.test_imports import PACKAGE

# Brought by the extra `train`, by its name in imports.
TRAIN = {"clu", "importlib_resources", "tensorboard", "tensorflow", "tensorflow_datasets"}
BLOCKED = f"""
import sys
from importlib.machinery import PathFinder
class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {TRAIN!r}
        return None if hidden else super().find_spec(name, path, target)
sys.meta_path[:] = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
"""
# Rooms that train or read prepared data, and what draws prepared data by itself.
NEED_IT = ("training", "evaluation", "data")


def run(code: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BLOCKED + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_every_module_outside_training_and_data_is_imported_without_it():
    files = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    names = [
        ".".join(["cada_jax", *file.with_suffix("").parts]).removesuffix(".__init__")
        for file in files
        if file.parts[0] not in NEED_IT and file.name not in ("__main__.py",)
    ]
    assert len(names) > 100
    ran = run("import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)", *names)
    assert ran.returncode == 0, ran.stderr[-2000:]


COMMANDS = "from cada_jax.__main__ import main\nsys.exit(main(sys.argv[1:]))"


def test_pictures_are_sampled_indexed_and_searched_without_it(tmp_path):
    photos, db = tmp_path / "photos", f"--db={tmp_path / 'people.db'}"
    some = tmp_path / "some"
    for arguments, expected in (
        (["sample", str(photos)], "captions.csv"),
        (["index", "--model=pretrained:synthetic", f"--images={some}", db], "12"),
        (["search", db, "a man in a red shirt"], ".jpg"),
    ):
        if arguments[0] == "index":
            some.mkdir()
            for path in sorted((photos / "people").rglob("*.jpg"))[:12]:
                path.rename(some / path.name)
        ran = run(COMMANDS, *arguments)
        assert ran.returncode == 0 and expected in ran.stdout, ran.stderr[-2000:]
    picture = ["--model=pretrained:synthetic", f"--image={next(some.iterdir())}"]
    ran = run(COMMANDS, "maps", "a red shirt", *picture, f"--out={tmp_path / 'maps.npz'}")
    assert ran.returncode == 0, ran.stderr[-2000:]


@pytest.mark.parametrize(
    "arguments",
    [
        ("cada_jax", "prepare", "--dataset=rstp", "--source=x"),
        ("cada_jax", "inspect", "pretrained:synthetic"),
        ("cada_jax.main", "--config=configs/synthetic.py", "--workdir=x"),
    ],
)
def test_what_needs_it_says_so_in_one_line(arguments):
    code = "import runpy\nsys.argv = sys.argv[1:]\n"
    ran = run(code + "runpy.run_module(sys.argv[0], run_name='__main__')", *arguments)
    assert ran.returncode == 2 and "pip install 'cada_jax[train]'" in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
