"""The commands of the package: `python -m cada_jax COMMAND ...`, or `cada COMMAND ...`."""

import difflib
import importlib
import sys

from cada_jax.common.command_line import DONE, run_command
from cada_jax.common.errors import UsageError

# Name -> (module:function of (argv) -> exit code, one line of help). A module is imported when its
# command is called, so that the help needs none of the libraries.
COMMANDS = {
    "train": ("cada_jax.main:train", "train a model and score it, or continue a run"),
    "evaluate": ("cada_jax.main:evaluate", "score what is trained, on one data set or several"),
    "prepare": (
        "cada_jax.data.preparation.command:main",
        "prepare a data set from the folder it is published as, or check that folder",
    ),
    "convert": (
        "cada_jax.checkpoints.commands:convert",
        "convert a PyTorch checkpoint to a model folder, or a model folder to PyTorch",
    ),
    "inspect": (
        "cada_jax.checkpoints.commands:inspect",
        "say what a workdir, a checkpoint or a model folder holds",
    ),
    "index": (
        "cada_jax.gallery.commands.index:main",
        "index folders of pictures, or bring a gallery up to date with them",
    ),
    "search": (
        "cada_jax.gallery.commands.search:main",
        "search a gallery in words, by a picture, or both",
    ),
    "serve": (
        "cada_jax.gallery.commands.serve:main",
        "serve a page and a JSON API that search a gallery",
    ),
    "maps": (
        "cada_jax.gallery.commands.maps:main",
        "draw which patches of a picture every word of a description looks at",
    ),
    "forget": (
        "cada_jax.gallery.commands.forget:main",
        "take pictures out of a gallery so that nothing of them is left",
    ),
    "sample": (
        "cada_jax.data.datasets.synthetic.sample:main",
        "write pictures of generated people, to try the other commands on",
    ),
}


def help_text() -> str:
    """The commands, one a line."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {line}" for name, (_, line) in COMMANDS.items())
    return (
        "usage: cada COMMAND ...      (the same: python -m cada_jax COMMAND ...)\n\n"
        "CADA in JAX: find the images of a person from a description in words.\n\n"
        f"commands:\n{listed}\n\n"
        "`cada COMMAND --help` lists the flags of a command; --version tells which version this is."
    )


def version() -> str:
    """The version that is installed."""
    from importlib import metadata

    return metadata.version("cada_jax")


def dispatch(argv: list[str]) -> int:
    """Runs the command that `argv` names first with the arguments after it; its exit code.

    Raises:
      UsageError: there is no such command.
    """
    name, *rest = argv or [""]
    if name in ("-h", "--help"):
        print(help_text())
        return DONE
    if name == "--version":
        print(f"cada_jax {version()}")
        return DONE
    if name not in COMMANDS:
        known = [*COMMANDS, "--help", "--version"]
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(COMMANDS)}"
        raise UsageError(f"unknown command {name!r}: {hint}" if name else f"no command: {hint}")
    module, _, function = COMMANDS[name][0].partition(":")
    return getattr(importlib.import_module(module), function)(rest)


def main(argv: list[str] | None = None) -> int:
    """Runs a command.

    Returns:
      The exit code, see `common.command_line.run_command`.
    """
    return run_command(lambda: dispatch(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
