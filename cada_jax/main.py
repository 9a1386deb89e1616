"""Trains, and scores what is trained.

    cada train --config=synthetic --workdir=runs/demo
    cada train --config=rstp:released --workdir=runs/rstp --config.train.epochs=3
    cada evaluate --config=synthetic --workdir=runs/demo

`python -m cada_jax.main` is `cada train`, with `--mode=eval` for `cada evaluate`. The same command
continues a run that was stopped. Any field of the configuration can be set by --config.FIELD=VALUE;
`python -m cada_jax.config` lists all of them. A configuration is a file, or the name of one in
configs/: cuhk, default, icfg, rstp, synthetic.

The console shows the program's own lines; `--verbosity=0` adds what its libraries log.

Exit codes: 0 done; 1 a loss that is not finite, or another process is gone; 2 something in the
command, the data or the workdir is not usable, or an error that nobody foresaw, whose traceback is
in WORKDIR/log.txt; 143 or 130 stopped by SIGTERM or Ctrl-C with the state saved.

Several processes run as one with `--coordinator=HOST:PORT --num_processes=N --process_id=I`, or
with `--distributed` alone where the cluster tells these (Cloud TPU, Slurm, Open MPI).
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from cada_jax.common.command_line import DONE, Flags, run_command
from cada_jax.common.errors import MissingFileError, StoppedError, needs_extra
from cada_jax.common.files import local_path
from cada_jax.common.kept_memory import keep_memory

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def train(argv: list[str]) -> int:
    """Trains; returns the exit code."""
    return _command(argv, "train")


def evaluate(argv: list[str]) -> int:
    """Scores what is trained; returns the exit code."""
    return _command(argv, "eval")


def parse_command(argv: list[str], mode: str) -> "tuple[argparse.Namespace, ConfigDict]":
    """The flags, and the configuration that they give, checked and locked.

    Nothing heavy is imported.

    Args:
      argv: the arguments.
      mode: of a command line without --mode.

    Raises:
      UsageError: a wrong flag, file, field or value.
    """
    parser = Flags(f"cada_jax {'train' if mode == 'train' else 'evaluate'}", __doc__)
    add = parser.add_argument
    add("--config", required=True, help="configuration: FILE, FILE:VARIANT, NAME or NAME:VARIANT")
    add("--workdir", required=True, help="folder of the run: made if missing, continued if there")
    add("--mode", default=mode, choices=("train", "eval"), help=argparse.SUPPRESS)
    add("--distributed", action="store_true", help="join the processes of the cluster")
    add("--coordinator", metavar="HOST:PORT", help="of process 0, to join processes")
    add("--num_processes", type=int, metavar="N", help="how many processes there are")
    add("--process_id", type=int, metavar="I", help="which of them this is, from 0")
    add("--verbosity", type=int, default=-1, metavar="LEVEL", help="0: what libraries log, too")
    if {"-h", "--help"} & {*argv}:
        parser.parse_args(argv)
    from cada_jax import config as config_lib  # after --help, which has to be quick

    arguments, overrides = config_lib.split_overrides(argv)
    flags = parser.parse_args(arguments)
    flags.workdir = local_path(flags.workdir)
    config = config_lib.load_config(flags.config)
    config_lib.apply_overrides(config, overrides)
    config_lib.validate(config, training=flags.mode == "train")
    _check_data(config)
    return flags, config.lock()


def _check_data(config: "ConfigDict") -> None:
    """Raises MissingFileError at once where nothing of the data set is prepared."""
    name = config.data.name
    chosen = config.data.data_dir or os.environ.get("CADA_DATA_DIR") or "~/cada_data"
    folder = local_path(chosen) / name
    if name != "synthetic" and not config.train.datasets and not folder.is_dir():
        raise MissingFileError(
            f"{name} is not prepared: {folder} is missing. Get the data set from its authors, then "
            f"cada prepare --dataset={name} --source=FOLDER --data_dir={folder.parent}"
        )


def _command(argv: list[str], mode: str) -> int:
    """Parses the command line and runs it; the process ends here if it fails."""
    flags, config = parse_command(argv, mode)
    from absl import logging

    logging.use_absl_handler()
    logging.set_verbosity(flags.verbosity)
    stopped: list[int] = []

    def work() -> int:
        try:
            return _run(flags, config)
        except StoppedError as e:
            stopped.append(e.exit_code)
            raise

    code = run_command(work, flags.workdir if flags.workdir.is_dir() else None)
    if code and not stopped:
        # A normal exit would wait for other processes, and for writers that found no room.
        from cada_jax.distributed import processes

        processes.leave(code)
    return code


def _run(flags: argparse.Namespace, config: "ConfigDict") -> int:
    # TensorFlow's own notices on threads and buffers; its warnings and errors stay.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # Not at the top: TensorFlow takes seconds to import, and a wrong flag is told before.
    from cada_jax.common.native_stderr import native_stderr_muted

    with native_stderr_muted(), needs_extra("train"):
        from cada_jax.data.registry import hide_accelerators
        from cada_jax.distributed import processes
        from cada_jax.evaluation.run import evaluate
        from cada_jax.training.run import train

        hide_accelerators()
        keep_memory()
    joining = (flags.coordinator, flags.num_processes, flags.process_id)
    if flags.distributed or joining != (None, None, None):
        processes.connect(*joining)
    with processes.explained():
        (train if flags.mode == "train" else evaluate)(config, flags.workdir)
    return DONE


def main(argv: list[str] | None = None) -> int:
    """Runs `cada train`; returns the exit code."""
    return run_command(lambda: train(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
