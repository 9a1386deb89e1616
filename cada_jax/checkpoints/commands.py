"""The flags of `cada inspect` and `cada convert`; the work is imported when it is asked for."""

import os

from cada_jax.common.command_line import DONE, Flags
from cada_jax.common.errors import MissingFileError
from cada_jax.common.files import local_path

INSPECT = """Prints what is in a checkpoint: step, configuration, parameters, and their SHA-256.

    cada inspect runs/demo                    the latest of a run
    cada inspect runs/demo/checkpoints/500    or runs/demo/best/500
    cada inspect runs/demo/model              a model
    cada inspect runs/demo --verify           are all of them as they were written?

The last line is `sha256 HEX`, of the parameters' names, dtypes, shapes and values alone: the same
whatever mesh the run had. With --verify there is one line for every checkpoint, the best and the
model instead: ok, or what is damaged.

The exit status is 1 if --verify finds damage, 2 if there is nothing that can be read.
"""
DAMAGED = 1


def inspect(argv: list[str]) -> int:
    """Prints; returns the exit status."""
    parser = Flags("cada_jax inspect", INSPECT)
    parser.add_argument("path", help="a run's folder, a checkpoint in it, or a model")
    parser.add_argument(
        "--verify", action="store_true", help="compare every file with its stored digest"
    )
    flags = parser.parse_args(argv)
    # Whoever looks at a run must not take the accelerator that it runs on.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from cada_jax.checkpoints import inspect

    if not flags.verify:
        print(inspect.describe(inspect.read(flags.path)))
        return DONE
    found = inspect.verify(flags.path)
    for folder, damage in found.items():
        print(f"{folder}: {f'damaged ({damage})' if damage else 'ok'}")
    return DAMAGED if any(found.values()) else DONE


CONVERT = """Converts checkpoints between PyTorch and this project.

    cada convert model_base.pth MODEL
        a file of torch.save of the authors or of BLIP, a .safetensors or a Hugging Face BLIP folder
        -> a model folder for --config.init_from, index and maps;
    cada convert hf:Salesforce/blip-itm-base-coco MODEL
        the same from the Hugging Face hub;
    cada convert WORKDIR/model model.pth
        a model folder -> a .pth that the authors' code loads strictly.

The sizes of the network come from the checkpoint. A Hugging Face BlipForImageTextRetrieval has no
attribute decoder: --attribute_decoder names a BlipForConditionalGeneration to take it from.

TARGET is new, or an empty folder. --overwrite replaces a model folder or a .pth that this command
wrote, and nothing else.
"""


def _pair(text: str) -> tuple[int, int]:
    height, width = map(int, text.replace("x", ",").split(","))
    return height, width


def convert(argv: list[str]) -> int:
    """Runs one conversion; returns the exit status."""
    parser = Flags("cada_jax convert", CONVERT)
    add = parser.add_argument
    add("source", metavar="SOURCE", help="PyTorch checkpoint, Hugging Face folder, or model")
    add("target", metavar="TARGET", help="model folder, or .pth if SOURCE is a model")
    add("--vocab", help="vocabulary file or hub name (default: the one in or beside SOURCE)")
    add(
        "--image_size",
        type=_pair,
        metavar="HEIGHT,WIDTH",
        help="of the images the model was trained with, where they were no squares",
    )
    add("--attribute_decoder", metavar="SOURCE2", help="checkpoint to take that part from")
    add("--overwrite", action="store_true", help="replace a TARGET that this command wrote")
    extras = parser.add_mutually_exclusive_group()
    extras.add_argument(
        "--drop_gate", action="store_true", help="leave a trained gate out of the .pth"
    )
    extras.add_argument(
        "--keep_extras",
        action="store_true",
        help="write gate and stem into the .pth too; then only this command reads it",
    )
    flags = parser.parse_args(argv)
    from cada_jax.checkpoints import hub, model
    from cada_jax.checkpoints.torch import conversions, files

    named = flags.source.startswith((hub.PREFIX, model.PRETRAINED_PREFIX))
    if not named and not os.path.exists(local_path(flags.source)):
        raise MissingFileError(f"{flags.source}: expected what to convert; there is no such file")
    of_hub = flags.source.startswith(hub.PREFIX) and not files.has_torch_suffix(flags.target)
    if not of_hub and not files.is_torch_checkpoint(flags.source):
        kept = "drop_gate" if flags.drop_gate else "keep" if flags.keep_extras else "refuse"
        print(conversions.to_pytorch(flags.source, flags.target, kept, flags.overwrite))
        return DONE
    target = conversions.check_folder_target(flags.target, flags.overwrite)
    source, card = hub.fetched(flags.source)
    decoder = flags.attribute_decoder and hub.fetched(flags.attribute_decoder)[0]
    converted = conversions.convert(source, flags.vocab, flags.image_size, decoder)
    conversions.save(converted, target, card, flags.overwrite)
    print(f"{converted}\nlicence, by its card: {card.get('licence') or 'not known'}")
    print(f"written: {target}")
    return DONE
