"""Configuration files: what `--config=configs/rstp.py:released` names."""

import contextlib
import difflib
import pathlib
import sys
import traceback
import types
from collections.abc import Iterator

from ml_collections import ConfigDict

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.config.kinds import path_problem, shown

MODULE = "cada_jax_config_file"
# A clone has configs/ beside the package; an installed package brings none.
CLONE = pathlib.Path(__file__).resolve().parents[2]
EXPECTED = "Expected a Python file with get_config(), as configs/synthetic.py"


def load_config(argument: str) -> ConfigDict:
    """Runs a configuration file and returns what its `get_config` returns.

    Args:
      argument: PATH or PATH:VARIANT; "~" is the home folder. With ":" the text after it is the one
        argument of get_config. A bare name, "rstp" or "rstp:released", is looked for in ./configs
        and in the folder configs of the clone.

    Raises:
      MissingFileError: there is no such file.
      UsageError: it cannot be read, is no Python, has no get_config, raises an error, or gives no
        ConfigDict. The message is one line with the file and, of an error in it, the line.
    """
    name, colon, variant = argument.partition(":")
    said = f"--config={argument if len(argument) <= 200 else argument[:200] + '...'}"
    path = _checked_path(_by_name(name, said), said)
    module = types.ModuleType(MODULE)
    module.__file__ = str(path)
    sys.modules[MODULE] = module  # dataclasses and pickle look a module up by its name
    try:
        with _importable(path.absolute().parent.parent):
            exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
            if not callable(getattr(module, "get_config", None)):
                raise UsageError(f"{said}: {path} has no function get_config. {EXPECTED}.")
            config = module.get_config(variant) if colon else module.get_config()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{said}: {_reason(error, path)}. {EXPECTED}.") from error
    if not isinstance(config, ConfigDict):
        raise UsageError(
            f"{said}: get_config() returned {shown(config)}; expected an ml_collections.ConfigDict,"
            " as cada_jax.config.default_config() gives."
        )
    return config


@contextlib.contextmanager
def _importable(root: pathlib.Path) -> Iterator[None]:
    """Lets a configuration file import others as `configs.NAME`, from the folder above configs/."""
    added = str(root) not in sys.path
    if added:
        sys.path.append(str(root))
    try:
        yield
    finally:
        if added:
            sys.path.remove(str(root))


def _by_name(name: str, said: str) -> str:
    """The path of a file in a folder of configurations that is called by its name alone."""
    if not name.isidentifier() or len(name) > 100 or pathlib.Path(name).exists():
        return name
    folders = [pathlib.Path("configs").absolute(), CLONE / "configs"]
    for folder in folders:
        if (folder / f"{name}.py").is_file():
            return str(folder / f"{name}.py")
    known = sorted({p.stem for folder in folders for p in folder.glob("*.py")})
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"{EXPECTED}."
    raise MissingFileError(f"{said}: there is no such file, here or in configs/. {hint}")


def _checked_path(name: str, said: str) -> pathlib.Path:
    problem = path_problem(name)
    if problem:
        raise UsageError(f"{said}: not the path of a file, since {problem}. {EXPECTED}.")
    path = pathlib.Path(name).expanduser()
    try:
        if path.is_dir():
            raise UsageError(f"{said}: {path} is a folder. {EXPECTED}.")
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError) as e:
        raise MissingFileError(f"{said}: there is no such file. {EXPECTED}.") from e
    except OSError as e:
        raise UsageError(f"{said}: the file cannot be read: {e.strerror}. {EXPECTED}.") from e
    return path


def _reason(error: BaseException, path: pathlib.Path) -> str:
    """What went wrong on one line, with the line of the file where it is known."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}: SyntaxError: {_first_line(error.msg)}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    where = f"{path}, line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {_first_line(error)}"


def _first_line(message: object) -> str:
    lines = str(message).strip().splitlines() or ["no message"]
    return lines[0][:300].rstrip(".")
