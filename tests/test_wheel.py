"""The wheel holds what a user needs and nothing of the tests, and works outside the clone."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the working tree, built with the hatchling that is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, f"--wheel-dir={folder}", str(REPOSITORY)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def outside(wheel, tmp_path_factory):
    """A function that runs Python, outside the clone, where the wheel is installed.

    The libraries are this environment's. Its .pth files are not read, so that an editable install
    does not bring the clone.
    """
    root = tmp_path_factory.mktemp("outside")
    venv.create(root / "venv", with_pip=False)
    python = root / "venv" / "bin" / "python"
    scheme = {"base": str(root / "venv"), "platbase": str(root / "venv")}
    site = pathlib.Path(sysconfig.get_path("purelib", "venv", scheme))
    pip = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True)
    # A folder that a .pth file names is searched after the venv's own, and read without its .pth.
    libraries = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(*arguments, script="python"):
        command = [str(python.parent / script), *arguments]
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)

    return run


def test_the_wheel_holds_the_package_and_what_it_reads(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {name.split("/")[0] for name in names} == {"cada_jax", wheel_info(names)}
    for needed in (
        "cada_jax/py.typed",
        "cada_jax/__main__.py",
        *(
            f"cada_jax/checkpoints/pretrained/{name}/{file}"
            for name in ("abroad", "matched", "synthetic")
            for file in ("config.json", "params/_METADATA", "vocab.txt")
        ),
        "cada_jax/data/datasets/synthetic/vocab.txt",
        "cada_jax/configs/synthetic.py",
        *(f"cada_jax/data/datasets/{name}/CITATIONS.bib" for name in ("cuhk", "icfg", "rstp")),
    ):
        assert needed in names, needed


def wheel_info(names):
    """The folder of what is said of the wheel."""
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    return info


def test_the_wheel_holds_no_tests_and_no_dummy_data(wheel):
    with zipfile.ZipFile(wheel) as file:
        infos = file.infolist()
    parts = {part for info in infos for part in pathlib.PurePosixPath(info.filename).parts}
    foreign = {"tests", "tools", "dummy_data", "__pycache__", "conftest.py"}
    assert not foreign & parts
    assert not [part for part in parts if part.endswith(("_test.py", ".pyc"))]
    assert sum(info.file_size for info in infos) < 16e6  # four small models


def test_the_clone_is_not_in_reach_there(outside):
    code = "import cada_jax, sys; print(cada_jax.__file__); sys.exit('tools' in sys.modules)"
    ran = outside("-c", code)
    assert ran.returncode == 0, ran.stderr
    assert str(REPOSITORY) not in ran.stdout
    assert outside("-c", "import tests, tools").returncode == 1


@pytest.mark.parametrize("script", ["python", "cada"])
def test_the_commands_are_listed_there(outside, script):
    ran = outside(*(["-m", "cada_jax"] if script == "python" else []), "--help", script=script)
    assert (ran.returncode, ran.stderr) == (0, "")
    for command in ("prepare", "convert", "inspect"):
        assert f"  {command}  " in ran.stdout


def test_a_configuration_is_named_there_as_in_the_clone(outside):
    code = "from cada_jax.config import load_config; print(load_config('{}').train.batch_size)"
    for name in ("synthetic:tiny", "configs/synthetic.py:tiny"):
        ran = outside("-c", code.format(name))
        assert ran.stdout == "16\n", ran.stderr


def test_the_version_there_is_the_wheels(outside, wheel):
    ran = outside("-m", "cada_jax", "--version")
    assert ran.stdout.split() == ["cada_jax", wheel.name.split("-")[1]]


def test_the_shipped_model_loads_there(outside):
    code = """
from cada_jax.checkpoints.model import load_model
params, config, vocab, _ = load_model("pretrained:synthetic")
print(config.data.name, vocab.name, params["vision_proj"]["kernel"].shape)
"""
    ran = outside("-c", code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split("\n")[-2] == "synthetic vocab.txt (96, 96)"
