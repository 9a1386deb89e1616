"""The command line: `python -m cada_jax.main --config=configs/synthetic.py --workdir=runs/demo`.

Any field of the configuration can be set: `--config.train.epochs=3`. The same command continues a
run that was stopped. `--mode=eval` scores what is trained in the workdir again.

The console shows the program's own lines; `--verbosity=0` adds what its libraries log.

Exit codes: 0 done; 1 a bug (with a traceback), or a loss that is not finite; 2 something in the
command, the data or the workdir is not usable; 143 or 130 stopped by SIGTERM or Ctrl-C with the
state saved. With several processes also 1, or 134 (aborted by JAX), when another process is gone.

Several processes run as one with `--coordinator=HOST:PORT --num_processes=N --process_id=I`, or
with `--distributed` alone where the cluster tells these (Cloud TPU, Slurm, Open MPI).
"""

import contextlib
import errno
import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

from absl import app, flags
from ml_collections import config_flags

from cada_jax.common.errors import (
    DivergedError,
    LostProcessError,
    NoRoomError,
    StoppedError,
    UsageError,
)

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, as configs/synthetic.py or configs/rstp.py:released."
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: made if missing, continued if there."
)
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "eval"], "Train and score, or score what is trained."
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the processes that the cluster's environment tells of."
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, to join processes.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
EXAMPLE = "Example: python -m cada_jax.main --config=configs/synthetic.py --workdir=runs/demo"


def _stop(error: Exception, code: int) -> NoReturn:
    print(error, file=sys.stderr, flush=True)
    processes = sys.modules.get(
        "cada_jax.distributed.processes"
    )  # not imported yet when a flag is wrong
    if processes and processes.joined():
        processes.leave(code)
    sys.exit(code)


def _without_traceback(message: str) -> str:
    """A flag error without the frames that ml_collections puts into it."""
    lines = message.splitlines()
    frames = [i for i, line in enumerate(lines) if line.startswith("  ")]
    if "Traceback" not in message or not frames:
        return message
    return "\n".join([lines[0], *lines[frames[-1] + 1 :]]).strip()


def _unknown_field(error: Exception, argv: list[str]) -> UsageError | None:
    """What to say of an override of a field that is not there; None if `error` is not that."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    text = str(error.args[0]) if error.args else ""
    key = re.search(r"^'(\w+)'|lookup: [\w.]*?(\w+)$", text)
    name = key and (key[1] or key[2])
    given = [arg for arg in argv if name and f".{name}" in arg.partition("=")[0]]
    if not given:
        return None
    near = re.search(r'mean "(\w+)"', text)
    hint = f"did you mean {near[1]!r}?" if near else "configs/default.py lists all fields."
    return UsageError(f"{given[0]}: the configuration has no field {name!r} there; {hint}")


def _missing_file(error: OSError) -> UsageError | None:
    """What to say of a configuration file that is not there; None if `error` is not that."""
    if "Path to config file is an empty string" in str(error):
        return UsageError(f"--config is missing.\n{EXAMPLE}")
    path = re.search(r"Failed loading config file.*\n.*\n\s*(.+)\n", str(error))
    return path and UsageError(f"--config={path[1]}: there is no such file.\n{EXAMPLE}")


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; exits with code 2 and one message if it is wrong."""
    try:
        rest = flags.FLAGS(argv)
        if CONFIG.value is not None:
            CONFIG.value.to_dict()  # a file that is missing is told no sooner
    except (flags.Error, ValueError) as e:
        _stop(UsageError(f"{_without_traceback(str(e))}\n{EXAMPLE}"), 2)
    except (KeyError, AttributeError, OSError) as e:
        explained = _missing_file(e) if isinstance(e, OSError) else _unknown_field(e, argv)
        if explained is None:
            raise
        _stop(explained, 2)
    for name, value in (("config", CONFIG.value), ("workdir", WORKDIR.value)):
        if value is None or value == "":
            _stop(UsageError(f"--{name} is missing.\n{EXAMPLE}"), 2)
    if flags.FLAGS["verbosity"].using_default_value:
        # Left alone, absl makes it 0 now, and Orbax and TFDS log every step of what they do.
        flags.FLAGS.verbosity = -1
    if len(rest) > 1:
        _stop(UsageError(f"{rest[1]!r} is not a flag.\n{EXAMPLE}"), 2)
    return rest


@contextlib.contextmanager
def _native_stderr_muted() -> Iterator[None]:
    """Drops what C++ code prints; what Python raises is still printed, later.

    TensorFlow prints notices on oneDNN and on CUDA it does not find, which look like errors, and
    since 2.20 TF_CPP_MIN_LOG_LEVEL does not keep it from that.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def main(argv: list[str]) -> None:
    """Runs what the flags say."""
    del argv
    # Not at the top: TensorFlow takes seconds to import, and a wrong flag is told before.
    with _native_stderr_muted():
        from cada_jax.data.registry import hide_accelerators
        from cada_jax.distributed import processes
        from cada_jax.training import run as run_lib

        hide_accelerators()
    joining = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if DISTRIBUTED.value or joining != (None, None, None):
        try:
            processes.connect(*joining)
        except UsageError as e:
            print(e, file=sys.stderr, flush=True)
            os._exit(2)  # a normal exit would wait for processes that were not found
    try:
        with processes.explained():
            run = run_lib.train if MODE.value == "train" else run_lib.evaluate_only
            run(CONFIG.value, WORKDIR.value)
    except NoRoomError as e:
        print(e, file=sys.stderr, flush=True)
        processes.leave(2)  # at a normal exit the writers left over print hundreds of tracebacks
    except UsageError as e:
        _stop(e, 2)
    except (DivergedError, LostProcessError) as e:
        _stop(e, 1)
    except StoppedError as e:
        # All processes stop at the same step, so that they may wait for each other.
        print(e, file=sys.stderr, flush=True)
        sys.exit(128 + e.signum)
    except Exception as e:
        if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
            _stop(UsageError(f"{e}. Make room there, then the same command continues."), 2)
        if not processes.joined():
            raise
        traceback.print_exc()
        processes.leave(1)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
