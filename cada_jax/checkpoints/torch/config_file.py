"""The config file that a flag names: a path, or the name of a file in a configs folder."""

import importlib.util
import os
import sys
from pathlib import Path

from ml_collections import ConfigDict

import cada_jax
from cada_jax.common.errors import MissingFileError, UsageError

# An installed package brings no configs/; a clone has one beside the package.
CLONE = Path(cada_jax.__file__).resolve().parents[1]


def default_config() -> ConfigDict:
    """The configuration with every field at its default."""
    try:
        from cada_jax.config import default_config as default
    except ImportError:
        return load_config("default")
    return default()


def load_config(argument: str) -> ConfigDict:
    """The ConfigDict that `argument` names.

    Args:
      argument: "rstp", "rstp:released" or "some/folder/rstp.py:released". A bare name is looked
        for in ./configs and in the folder configs beside the package.

    Raises:
      MissingFileError: there is no such file.
      UsageError: the file gives no config, or not that variant.
    """
    name, _, variant = argument.partition(":")
    path = _find(argument, name)
    try:
        get_config = _load(path).get_config
        config = get_config(variant) if variant else get_config()
    except UsageError:
        raise
    except Exception as err:  # the file is the user's own code
        reason = f"{type(err).__name__}: {err}".splitlines()[0]
        raise UsageError(
            f"--config={argument}: {path} gave no config ({reason}). Expected a Python file with "
            "get_config(), and with get_config(variant) if it has variants"
        ) from err
    if not isinstance(config, ConfigDict):
        raise UsageError(
            f"--config={argument}: get_config() of {path} returned a {type(config).__name__}, "
            "expected a ConfigDict"
        )
    return config


def _find(argument: str, name: str) -> Path:
    if name.endswith(".py") or os.sep in name:
        path = Path(os.path.expanduser(name))
        if not os.path.isfile(path):
            raise MissingFileError(f"--config={argument}: there is no file {path}")
        if path.suffix != ".py":
            raise UsageError(f"--config={argument}: {path} is no Python file (.py)")
        return path.absolute()
    folders = [Path("configs").absolute(), CLONE / "configs"]
    for folder in folders:
        if os.path.isfile(folder / f"{name}.py"):
            return folder / f"{name}.py"
    known = sorted({p.stem for folder in folders for p in folder.glob("*.py")})
    found = f"Known: {', '.join(known)}" if known else "Give the path of a config file"
    raise MissingFileError(
        f"--config={argument}: no file {name}.py in {' or '.join(map(str, folders))}. {found}"
    )


def _load(path: Path):
    # Config files import each other from the folder that holds configs/.
    root = str(path.parent.parent)
    if root not in sys.path:
        sys.path.append(root)
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
