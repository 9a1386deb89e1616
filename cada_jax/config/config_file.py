"""Configuration files: what `--config=configs/rstp.py:released`, or `--config=rstp`, names."""

import difflib
import os
import pathlib
import sys
import traceback
import types

from ml_collections import ConfigDict

from cada_jax.common.errors import MissingFileError, UsageError, shown
from cada_jax.common.files import read_bytes

MODULE = "cada_jax_config_file"
# Where configs/ lies: here, beside the package in a clone, within it where it is installed.
ROOTS = (pathlib.Path(), *pathlib.Path(__file__).resolve().parents[1:3])
EXPECTED = "expected a Python file with get_config(), as configs/synthetic.py"


def load_config(argument: str) -> ConfigDict:
    """Runs a configuration file and returns what its `get_config` returns.

    Args:
      argument: PATH or PATH:VARIANT; "~" is the home folder. With ":" the text after it is the one
        argument of get_config. "configs/NAME.py", or NAME alone, is looked for here and among the
        configurations of the project.

    Raises:
      MissingFileError: there is no such file.
      UsageError: it cannot be read, is no Python, has no get_config, raises an error, or gives no
        ConfigDict. The message is one line with the file and, of an error in it, the line.
    """
    name, colon, variant = argument.partition(":")
    path = _find(name)
    source = read_bytes(path, "a configuration file")
    module = types.ModuleType(MODULE)
    module.__file__ = str(path)
    sys.modules[MODULE] = module  # dataclasses and pickle look a module up by its name
    sys.path.append(str(path.absolute().parent.parent))  # files import others as `configs.NAME`
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
        config = module.get_config(variant) if colon else module.get_config()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"--config={argument}: {_reason(error, path)}; {EXPECTED}") from error
    finally:
        sys.path.pop()
    if not isinstance(config, ConfigDict):
        raise UsageError(
            f"--config={argument}: get_config() returned {shown(config)}; expected an "
            "ml_collections.ConfigDict, as cada_jax.config.default_config() gives."
        )
    return config


def _find(name: str) -> pathlib.Path:
    """The path of a configuration file that is named by its path or by its name alone."""
    spelled = (name, f"configs/{name}.py") if name.isidentifier() else (name,)
    paths = [root / os.path.expanduser(s) for root in ROOTS for s in spelled]
    found = next((path for path in paths if path.is_file()), None)
    if found:
        return found
    known = sorted({p.stem for root in ROOTS for p in (root / "configs").glob("*.py")})
    near = difflib.get_close_matches(pathlib.Path(name).stem, known, n=1)
    hint = f"did you mean {near[0]}?" if near else EXPECTED
    raise MissingFileError(f"--config={name}: there is no such file, here or in configs/; {hint}")


def _reason(error: BaseException, path: pathlib.Path) -> str:
    """What went wrong on one line, with the line of the file where it is known."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}: SyntaxError: {error.msg}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    where = f"{path}, line {lines[-1]}: " if lines else ""
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{where}{type(error).__name__}: {first[:300]}"
