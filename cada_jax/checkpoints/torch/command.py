"""Converts checkpoints between PyTorch and this project.

    python tools/convert_checkpoint.py model_base.pth MODEL --vocab=vocab.txt
        a .pth of the authors or of BLIP, a .safetensors or a Hugging Face BLIP folder
        -> a model folder for --config.init_from, search and check_parity;
    python tools/convert_checkpoint.py WORKDIR/model model.pth
        a model folder -> a .pth that the authors' code loads strictly.

A Hugging Face BlipForImageTextRetrieval has no attribute decoder: --attribute_decoder names a
BlipForConditionalGeneration to take it from.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import jax  # noqa: E402
import numpy as np  # noqa: E402
from flax.traverse_util import flatten_dict, unflatten_dict  # noqa: E402

from cada_jax import config as config_lib  # noqa: E402
from cada_jax.checkpoints import export
from cada_jax.checkpoints.torch import convert, files
from cada_jax.common.errors import UsageError  # noqa: E402
from cada_jax.models.cada import from_config, init_params  # noqa: E402
from cada_jax.text.tokenizer import load_tokenizer  # noqa: E402
from config_file import load_config  # noqa: E402


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Returns the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", metavar="SRC", help=".pth, .safetensors, Hugging Face folder, or model folder")
    add("target", metavar="DST", help="model folder, or .pth if SRC is a model folder")
    add(
        "--config",
        help="config of the new model folder, as rstp or rstp:large (default: the one stored in "
        "SRC, else configs/default.py with the sizes SRC shows)",
    )
    add("--vocab", help="vocabulary file or hub name (default: the one in or beside SRC)")
    add("--attribute_decoder", metavar="SRC2", help="checkpoint to take that part from")
    extras = parser.add_mutually_exclusive_group()
    extras.add_argument(
        "--drop_gate",
        action="store_true",
        help="leave a trained gate out of the .pth; prints what that costs",
    )
    extras.add_argument(
        "--keep_extras",
        action="store_true",
        help="write gate and stem into the .pth too; then only this tool reads it",
    )
    return parser.parse_args(argv)


def from_pytorch(flags: argparse.Namespace) -> None:
    """Converts to a model folder, which appears only when everything fits."""
    checkpoint = files.read_checkpoint(flags.source)
    tensors, ours = checkpoint.tensors, checkpoint.config.get(convert.OUR_KEY, {})
    if flags.attribute_decoder:
        tensors = _with_attribute_decoder(tensors, flags.attribute_decoder)
    if flags.config or "config" not in ours:
        config = load_config(flags.config or "default")
        if not flags.config:
            convert.infer_sizes(tensors, config)
    else:
        config = _stored_config(ours["config"])
    with tempfile.TemporaryDirectory() as folder:
        vocab = flags.vocab or checkpoint.vocab
        if vocab is None and "vocab" in ours:
            vocab = pathlib.Path(folder) / "vocab.txt"
            vocab.write_text(ours["vocab"], encoding="utf-8")
        if vocab is None:
            raise UsageError(
                f"{flags.source} brings no vocabulary: name its WordPiece file or a hub name, "
                "--vocab=bert-base-uncased for the authors' and BLIP's checkpoints"
            )
        tokenizer = load_tokenizer(vocab)
        _set_tokens(config, tokenizer, vocab)
        leaves, report = _convert(checkpoint, tensors, config)
        export.save_model(flags.target, unflatten_dict(leaves, sep="/"), config, tokenizer.path)
    print(convert.format_report(report))
    print(f"{sum(x.size for x in leaves.values()):,} parameters in {flags.target}")


def _stored_config(values: dict):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / config_lib.CONFIG_FILE
        path.write_text(json.dumps(values), encoding="utf-8")
        return config_lib.read_config(path).unlock()


def _set_tokens(config, tokenizer, vocab) -> None:
    if tokenizer.vocab_size != config.model.text.vocab_size:
        raise UsageError(
            f"--vocab={vocab} has {tokenizer.vocab_size} entries with [DEC] and [ENC], expected "
            f"config.model.text.vocab_size = {config.model.text.vocab_size}"
        )
    for name, index in tokenizer.special.items():
        config.model.tokens[name] = index


def _with_attribute_decoder(tensors, path: str):
    other = files.read_checkpoint(path).tensors
    part = {name: x for name, x in other.items() if name.startswith("text_decoder.")}
    if not part:
        raise UsageError(f"--attribute_decoder={path} has no tensor named text_decoder.*")
    return {n: x for n, x in tensors.items() if not n.startswith("text_decoder.")} | part


def _convert(checkpoint, tensors, config):
    """Returns (all leaves, new ones initialised by config.seed; report)."""
    try:
        model = from_config(config)
    except ValueError as err:
        raise UsageError(str(err)) from err
    key = jax.random.key(config.seed)
    shapes = jax.eval_shape(lambda key: init_params(model, config, key), key)
    shapes = {path: leaf.shape for path, leaf in flatten_dict(shapes, sep="/").items()}
    image = config.model.image
    grid = tuple(s // p for s, p in zip(image.size, image.patch, strict=True))
    leaves, report = convert.from_torch(
        tensors, shapes, grid, convert.stored_grid(checkpoint), str(checkpoint.path)
    )
    if len(leaves) < len(shapes):
        fresh = flatten_dict(jax.jit(lambda k: init_params(model, config, k))(key), sep="/")
        leaves |= {path: np.asarray(fresh[path]) for path in shapes if path not in leaves}
    return leaves, report


def to_pytorch(flags: argparse.Namespace) -> None:
    """Converts a model folder to a .pth."""
    if pathlib.Path(flags.target).suffix not in (".pth", ".pt"):
        raise UsageError(
            f"{flags.source} is a model folder, so DST has to be a .pth, not {flags.target}"
        )
    params, config, vocab = export.load_model(flags.source)
    leaves = flatten_dict(params, sep="/")
    extras = "drop_gate" if flags.drop_gate else "keep" if flags.keep_extras else "refuse"
    tensors = convert.to_torch(leaves, extras)
    ours = {
        "config": json.loads(config_lib.to_json(config)),
        "vocab": vocab.read_text(encoding="utf-8"),
    }
    if flags.drop_gate:
        print(gate_cost(params, config))
    files.write_checkpoint(flags.target, tensors, {convert.OUR_KEY: ours})
    print(f"{len(tensors)} tensors in {flags.target}")


def gate_cost(params: dict, config, pairs: int = 64) -> str:
    """How far the match logits of random images and texts move when the gate is left out."""
    gate = params["text_encoder"]["layers"].get("gate")
    if gate is None:
        return "The model has no gate; nothing is lost."
    rng = np.random.default_rng(0)
    length, tokens = config.data.max_length, config.model.tokens
    words = np.setdiff1d(np.arange(config.model.text.vocab_size), list(tokens.values()))
    token_ids = rng.choice(words, (pairs, length)).astype(np.int32)
    ends = rng.integers(length // 3, length, pairs)
    token_ids[np.arange(pairs), ends] = tokens.sep
    token_ids[np.arange(length)[None] > ends[:, None]] = tokens.pad
    token_ids[:, 0] = tokens.cls
    images = rng.standard_normal((8, *config.model.image.size, 3)).astype(np.float32)
    model = from_config(config)
    index = np.arange(pairs, dtype=np.int32) % len(images)

    @jax.jit
    def logits(params):
        image_tokens = model.apply({"params": params}, images, method="encode_image")
        decoded = model.apply({"params": params}, token_ids, image_tokens, index, method="decode")
        return model.apply({"params": params}, decoded, method="match")[:, 1]

    open_gate = jax.tree.map(np.zeros_like, gate)
    layers = params["text_encoder"]["layers"] | {"gate": open_gate}
    without = params | {"text_encoder": params["text_encoder"] | {"layers": layers}}
    before, after = np.asarray(logits(params)), np.asarray(logits(without))
    moved = np.abs(after - before)
    order = np.corrcoef(np.argsort(np.argsort(before)), np.argsort(np.argsort(after)))[0, 1]
    return (
        f"Without its gate, on {pairs} random image-text pairs, the match logit moves by "
        f"{moved.mean():.3g} on average, {moved.max():.3g} at most; its standard deviation over "
        f"pairs is {before.std():.3g}. Rank correlation of the two: {order:.4f}."
    )


def main(argv: list[str]) -> int:
    """Runs one conversion; returns the exit status."""
    flags = parse_arguments(argv)
    source = pathlib.Path(flags.source)
    folder = flags.source.startswith("pretrained:") or (source / config_lib.CONFIG_FILE).exists()
    try:
        if folder and not files.is_torch_checkpoint(source):
            to_pytorch(flags)
        else:
            from_pytorch(flags)
    except UsageError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main(sys.argv[1:]))
