"""Config files for tools that are told one by a flag: configs/NAME.py or a path, and a variant."""

import importlib.util
import pathlib
import sys

from ml_collections import ConfigDict

from cada_jax.common.errors import MissingFileError

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def load_config(argument: str = "default") -> ConfigDict:
    """The ConfigDict that `argument` names.

    Args:
      argument: "rstp", "rstp:released" or "configs/rstp.py:released".

    Raises:
      MissingFileError: there is no such file.
    """
    name, _, variant = argument.partition(":")
    path = pathlib.Path(name) if name.endswith(".py") else REPOSITORY / "configs" / f"{name}.py"
    if not path.is_file():
        known = sorted(p.stem for p in (REPOSITORY / "configs").glob("*.py"))
        raise MissingFileError(f"--config={argument}: no file {path}. Known: {', '.join(known)}")
    if str(REPOSITORY) not in sys.path:  # config files import each other from the clone
        sys.path.append(str(REPOSITORY))
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(variant) if variant else module.get_config()
