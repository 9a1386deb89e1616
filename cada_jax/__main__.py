"""The commands of the package: `python -m cada_jax COMMAND ...`, or `cada COMMAND ...`.

Training and scoring have a command of their own: `python -m cada_jax.main --config=...`.
"""

import importlib
import sys

from cada_jax.common.command_line import DONE, UNUSABLE, run_command

# Name -> (module with a `main(argv) -> exit code`, one line of help). A module is imported when its
# command is called, so that the help needs none of the libraries.
COMMANDS = {
    "prepare": (
        "cada_jax.data.preparation.command",
        "prepare a data set from the folder it is published as, or check that folder",
    ),
    "convert": (
        "cada_jax.checkpoints.torch.command",
        "convert a PyTorch checkpoint to a model folder, or a model folder to PyTorch",
    ),
    "inspect": (
        "cada_jax.checkpoints.command",
        "say what a workdir, a checkpoint or a model folder holds",
    ),
    "index": (
        "cada_jax.gallery.commands.index",
        "index folders of pictures, or bring a gallery up to date with them",
    ),
    "maps": (
        "cada_jax.gallery.commands.maps",
        "draw which patches of a picture every word of a description looks at",
    ),
    "serve": (
        "cada_jax.gallery.commands.serve",
        "serve a page and a JSON API that search a gallery",
    ),
    "search": (
        "cada_jax.gallery.commands.search",
        "search a gallery in words, by a picture, or both",
    ),
    "forget": (
        "cada_jax.gallery.commands.forget",
        "take pictures out of a gallery so that nothing of them is left",
    ),
}
TRAINING = "python -m cada_jax.main --config=configs/synthetic.py --workdir=runs/demo"


def help_text() -> str:
    """The commands, one a line."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {line}" for name, (_, line) in COMMANDS.items())
    return (
        "usage: python -m cada_jax COMMAND ...      (the same: cada COMMAND ...)\n\n"
        "CADA in JAX: find the images of a person from a description in words.\n\n"
        f"commands:\n{listed}\n\n"
        "`python -m cada_jax COMMAND --help` lists the flags of a command; --version tells which\n"
        "version this is.\n\n"
        f"train:     {TRAINING}\n"
        "evaluate:  the same with --mode=eval\n"
    )


def version() -> str:
    """The version that is installed."""
    from importlib import metadata

    try:
        return metadata.version("cada_jax")
    except metadata.PackageNotFoundError:
        return "unknown: cada_jax is not installed (pip install -e .)"


def unknown(name: str) -> str:
    """What to say of a command that is not there."""
    import difflib

    what = "flag" if name.startswith("-") else "command"
    known = ["--help", "--version"] if what == "flag" else list(COMMANDS)
    if name.lower() in ("train", "eval", "evaluate", "main"):
        return f"{name!r} is no command here; train and evaluate with {TRAINING}"
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
    return f"unknown {what} {name!r}: {hint}"


def dispatch(argv: list[str]) -> int:
    """Runs the command that `argv` names first with the arguments after it; its exit code."""
    if not argv:
        print(f"error: no command given\n\n{help_text()}", end="", file=sys.stderr)
        return UNUSABLE
    name, *rest = argv
    if name in ("-h", "--help"):
        print(help_text(), end="")
        return DONE
    if name == "--version":
        print(f"cada_jax {version()}")
        return DONE
    if name not in COMMANDS:
        print(f"error: {unknown(name)}", file=sys.stderr)
        return UNUSABLE
    return importlib.import_module(COMMANDS[name][0]).main(rest)


def main(argv: list[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: the arguments; those of the process if None.

    Returns:
      The exit code: the command's own; 2 for what cannot be run; 130 after Ctrl-C.
    """
    return run_command(lambda: dispatch(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
