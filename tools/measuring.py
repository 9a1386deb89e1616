"""What the tools that measure trained models share: their flags, and one model after the other."""

import argparse
import json
from collections.abc import Callable
from typing import Any

from cada_jax.checkpoints.model import resolve_model
from cada_jax.common.compilation_cache import enable_compilation_cache
from cada_jax.common.console import say
from cada_jax.common.files import write_text
from tools.arguments import Parser
from tools.probing.subject import Subject, load_subject


def model_flags(tool: str, description: str | None) -> Parser:
    """A parser of the models and the set that are measured."""
    parser = Parser(tool, description)
    parser.add_argument("--model", action="append", required=True, help="a folder, or NAME")
    parser.add_argument("--dataset", default="synthetic/demo", help="NAME or NAME/VARIANT")
    parser.add_argument("--data_dir", help="of prepared sets; $CADA_DATA_DIR or ~/cada_data")
    return parser


def measure_each(
    flags: argparse.Namespace,
    measure: Callable[[Subject], dict[str, Any]],
    limit: int | None,
    split: str = "test",
) -> list[dict[str, Any]]:
    """What is found of each model, in turn.

    Args:
      flags: of `model_flags`.
      measure: measures one.
      limit: captions that are drawn of the split; None for all.
      split: "train", "val" or "test".
    """
    for model in flags.model:  # before minutes are spent on the first
        resolve_model(model)
    enable_compilation_cache()
    found = []
    for model in flags.model:
        say(f"Measuring {model} on {flags.dataset} {split}.")
        found.append(measure(load_subject(model, flags.dataset, split, limit, flags.data_dir)))
    return found


def show(
    found: list[dict[str, Any]], table: Callable[[list[dict[str, Any]]], str], out: str | None
) -> int:
    """Prints the figures of all models as a table, and writes them as JSON; the exit code."""
    print(table(found))
    if out:
        write_text(out, json.dumps(found, indent=1) + "\n")
    return 0
