"""The command line: `python -m cada_jax.main --config=configs/synthetic.py --workdir=runs/demo`.

Any field of the configuration can be set: `--config.train.epochs=3`; `python -m cada_jax.config`
lists all of them. The same command continues a run that was stopped. `--mode=eval` scores what is
trained in the workdir again.

The console shows the program's own lines; `--verbosity=0` adds what its libraries log.

On Linux the process starts itself again with GLIBC_TUNABLES set, its memory in huge pages and kept:
training a small model on a CPU takes a quarter less time. Set that variable, to whatever you like,
to have it left alone.

Exit codes: 0 done; 1 a bug (with a traceback), or a loss that is not finite; 2 something in the
command, the data or the workdir is not usable; 143 or 130 stopped by SIGTERM or Ctrl-C with the
state saved. With several processes also 1, or 134 (aborted by JAX), when another process is gone.

Several processes run as one with `--coordinator=HOST:PORT --num_processes=N --process_id=I`, or
with `--distributed` alone where the cluster tells these (Cloud TPU, Slurm, Open MPI).
"""

import errno
import functools
import os
import sys
import traceback
from typing import NoReturn

from absl import app, flags
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.common.errors import (
    DivergedError,
    LostProcessError,
    NoRoomError,
    StoppedError,
    UsageError,
)
from cada_jax.common.huge_pages import restart_with_settings, run_where_memory_is_kept
from cada_jax.common.native_stderr import native_stderr_muted

CONFIG = flags.DEFINE_string(
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
HELP = {"-h", "-help", "--help", "--helpshort", "-helpshort", "--helpfull", "-helpfull"}


def _stop(error: Exception, code: int) -> NoReturn:
    print(error, file=sys.stderr, flush=True)
    # Not imported yet when a flag is wrong.
    processes = sys.modules.get("cada_jax.distributed.processes")
    if processes and processes.joined():
        processes.leave(code)
    sys.exit(code)


def _given(flag: flags.FlagHolder[str | None]) -> str:
    """The value of a flag that must be there."""
    if not flag.value:
        raise UsageError(f"--{flag.name} is missing.\n{EXAMPLE}")
    return flag.value


def parse_command(argv: list[str]) -> ConfigDict:
    """Parses the flags and returns the configuration that they give, checked and locked.

    Nothing heavy is imported before. A wrong flag, file, field or value ends the program with
    code 2 and one message, --help with code 0.

    Args:
      argv: the command line, the program's name first.
    """
    if HELP & {*argv[1:]}:
        print(f"{__doc__}\nFlags:\n{flags.FLAGS.module_help(sys.modules[__name__])}")
        sys.exit(0)
    try:
        arguments, overrides = config_lib.split_overrides(
            flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
        )
        rest = flags.FLAGS(arguments)
        if len(rest) > 1:
            raise UsageError(f"{rest[1]!r} is not a flag.\n{EXAMPLE}")
        file, workdir = _given(CONFIG), _given(WORKDIR)
        problem = config_lib.path_problem(workdir)
        if problem:
            raise UsageError(f"--workdir={workdir[:200]!r}: not a folder, since {problem}.")
        config = config_lib.load_config(file)
        config_lib.apply_overrides(config, overrides)
        config_lib.validate(config, training=MODE.value == "train")
    except UsageError as e:
        _stop(e, 2)
    except flags.Error as e:
        _stop(UsageError(f"{e}\n{EXAMPLE}"), 2)
    if flags.FLAGS["verbosity"].using_default_value:
        # Left alone, absl makes it 0 now, and Orbax and TFDS log every step of what they do.
        flags.FLAGS.verbosity = -1
    return config.lock()


def main(config: ConfigDict, argv: list[str]) -> None:
    """Trains or scores, as the flags say.

    Args:
      config: from `parse_command`.
      argv: what is left of the command line; not read.
    """
    del argv
    # TensorFlow's own notices on threads and buffers; its warnings and errors stay.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # Not at the top: TensorFlow takes seconds to import, and a wrong flag is told before.
    with native_stderr_muted():
        from cada_jax.data.registry import hide_accelerators
        from cada_jax.distributed import processes
        from cada_jax.evaluation.run import evaluate
        from cada_jax.training.run import train

        hide_accelerators()
        run_where_memory_is_kept()
    joining = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if DISTRIBUTED.value or joining != (None, None, None):
        try:
            processes.connect(*joining)
        except UsageError as e:
            print(e, file=sys.stderr, flush=True)
            os._exit(2)  # a normal exit would wait for processes that were not found
    try:
        with processes.explained():
            run = train if MODE.value == "train" else evaluate
            run(config, _given(WORKDIR))
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
    restart_with_settings()
    command = functools.partial(main, parse_command(sys.argv))
    app.run(command, argv=sys.argv[:1], flags_parser=lambda argv: argv)
