"""Converts checkpoints between PyTorch and this project.

    python -m cada_jax convert model_base.pth MODEL --vocab=vocab.txt
        a file of torch.save of the authors or of BLIP, a .safetensors or a Hugging Face BLIP folder
        -> a model folder for --config.init_from, search and check_parity;
    python -m cada_jax convert WORKDIR/model model.pth
        a model folder -> a .pth that the authors' code loads strictly.

A Hugging Face BlipForImageTextRetrieval has no attribute decoder: --attribute_decoder names a
BlipForConditionalGeneration to take it from.

DST is new, or an empty folder. --overwrite replaces a model folder or a .pth that this command
wrote, and nothing else.
"""

import argparse
import os
import sys

from cada_jax.common.errors import UsageError

PROGRAM = "python -m cada_jax convert"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Returns the flags; those of the process if `argv` is None."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", metavar="SRC", help="PyTorch checkpoint, Hugging Face folder, or model folder")
    add("target", metavar="DST", help="model folder, or .pth if SRC is a model folder")
    add(
        "--config",
        help="config of the new model folder: a file with get_config(), as FILE.py or "
        "FILE.py:VARIANT, or its name in ./configs, as rstp:large (default: the one stored in SRC, "
        "else the default config with the sizes SRC shows)",
    )
    add("--vocab", help="vocabulary file or hub name (default: the one in or beside SRC)")
    add("--attribute_decoder", metavar="SRC2", help="checkpoint to take that part from")
    add(
        "--append_tokens",
        action="store_true",
        help="add random rows for [DEC] and [ENC] to a checkpoint with BERT's own vocabulary",
    )
    add("--overwrite", action="store_true", help="replace a DST that this command wrote")
    extras = parser.add_mutually_exclusive_group()
    extras.add_argument(
        "--drop_gate",
        action="store_true",
        help="leave a trained gate out of the .pth; prints what that costs",
    )
    extras.add_argument(
        "--keep_extras",
        action="store_true",
        help="write gate and stem into the .pth too; then only this command reads it",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs one conversion; returns the exit status: 0 done, 2 for input that cannot be used."""
    flags = parse_arguments(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # After the flags: --help and a misspelt flag are answered without JAX and Orbax.
    from cada_jax.checkpoints.torch.conversions import from_pytorch, is_model_folder, to_pytorch

    try:
        (to_pytorch if is_model_folder(flags.source) else from_pytorch)(flags)
    except UsageError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
