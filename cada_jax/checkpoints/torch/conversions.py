"""A PyTorch checkpoint as a model folder of this project, and back."""

import dataclasses
import json
import pathlib
import tempfile
from typing import Any

from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.checkpoints import model
from cada_jax.checkpoints.torch import files, sizes
from cada_jax.checkpoints.torch.convert import from_torch, to_torch
from cada_jax.checkpoints.torch.names import RETRIEVAL_PARTS
from cada_jax.common.errors import UsageError
from cada_jax.common.files import check_target, local_path, read_json
from cada_jax.common.pytrees import flat_arrays
from cada_jax.text.tokenizer import Tokenizer
from cada_jax.text.vocabulary import BERT_VOCABULARY, VOCABULARY_FILE, find_vocabulary

# Parts that searching does without, and what that means.
_MAY_LACK = {
    "attribute_decoder": "the attribute decoder, so attributes are not read",
    "itm_local_head": "the local match head, which only training uses",
}
BLIP_ENTRIES = 30524  # BERT's 30522, [DEC] and [ENC]


@dataclasses.dataclass(frozen=True)
class Converted:
    """A checkpoint as a model, not written yet.

    params: nested dict of float32 arrays, without the parts that the checkpoint has not; config:
    full; left_out: tensor -> why; entries: of the vocabulary, a line each.
    """

    params: dict[str, Any]
    config: ConfigDict
    left_out: dict[str, str]
    entries: str

    def __str__(self) -> str:
        """What was loaded, what is not there, and what was left out: a line each."""
        leaves = flat_arrays(self.params)
        parts = ", ".join(dict.fromkeys(name.split("/")[0] for name in leaves))
        lines = [f"loaded: {sum(x.size for x in leaves.values()):,} parameters of {parts}"]
        if new := [said for part, said in _MAY_LACK.items() if part not in self.params]:
            lines.append(f"not there: {', '.join(new)}")
        if self.left_out:
            reasons = sorted({f"{why}" for why in self.left_out.values()})
            lines.append(f"left out: {len(self.left_out)} tensors ({', '.join(reasons)})")
        return "\n".join(lines)


def convert(
    source: str,
    vocab: str | None = None,
    image_size: tuple[int, int] | None = None,
    attribute_decoder: str | None = None,
) -> Converted:
    """Reads a checkpoint as a model whose sizes are the checkpoint's own.

    Args:
      source: what `files.read_checkpoint` reads.
      vocab: vocabulary file or hub name; None: the checkpoint's, else BERT's.
      image_size: (height, width) of its images in pixels; None: as the checkpoint tells, or square.
      attribute_decoder: another checkpoint to take that part from.

    Raises:
      UsageError: it lacks a part that retrieval needs, or does not fit itself.
    """
    checkpoint, origin = files.read_checkpoint(source), str(source)
    tensors = checkpoint.tensors
    if attribute_decoder:
        other = files.read_checkpoint(attribute_decoder).tensors
        part = {name: x for name, x in other.items() if name.startswith("text_decoder.")}
        if not part:
            raise UsageError(f"{attribute_decoder} has no tensor named text_decoder.*")
        tensors = {n: x for n, x in tensors.items() if not n.startswith("text_decoder.")} | part
    leaves, left_out = from_torch(tensors, origin)
    present = {name.split("/")[0] for name in leaves}
    if lacking := [part for part in RETRIEVAL_PARTS if part not in present]:
        raise UsageError(
            f"{origin} has no {', no '.join(lacking)}, and a model with random ones would "
            "retrieve at random. A captioning BLIP gives its attribute decoder alone: convert a "
            f"retrieval checkpoint with --attribute_decoder={source}"
        )
    config = sizes.our_config(checkpoint.config, origin)
    if config is None:
        config = config_lib.default_config()
        sizes.set_sizes(config, leaves, checkpoint.config)
        if image_size:
            config.data.image_size = image_size
        else:
            sizes.set_image_size(config, leaves, checkpoint.config)
        if "attribute_decoder/head/bias" not in leaves:
            config.loss.ara_weight = 0.0
    sizes.check_sizes(config, leaves, origin)
    entries = _vocabulary(checkpoint, vocab, config)
    _set_tokens(config, entries, origin)
    return Converted(unflatten_dict(leaves, sep="/"), config, left_out, entries)


def _vocabulary(checkpoint: files.Checkpoint, vocab: str | None, config: ConfigDict) -> str:
    """The entries of the vocabulary that was asked for, or that comes with a checkpoint."""
    stored = checkpoint.config.get(sizes.OUR_KEY)
    if vocab is None and isinstance(stored, dict) and isinstance(stored.get("vocab"), str):
        return stored["vocab"]
    if vocab is None and checkpoint.path.is_dir():
        tokenizer = checkpoint.path / "tokenizer.json"
        if (checkpoint.path / VOCABULARY_FILE).exists():
            vocab = str(checkpoint.path / VOCABULARY_FILE)
        elif tokenizer.exists():
            ids = read_json(tokenizer, "a tokenizer")["model"]["vocab"]
            return "\n".join(sorted(ids, key=ids.get)) + "\n"
    if vocab is None and config.model.text.vocab_size == BLIP_ENTRIES:
        vocab = BERT_VOCABULARY
    if vocab is None:
        raise UsageError(f"{checkpoint.path} brings no vocabulary: name its file by --vocab")
    return find_vocabulary(vocab).read_bytes().decode("utf-8")


def _set_tokens(config: ConfigDict, entries: str, origin: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / VOCABULARY_FILE
        path.write_text(entries, encoding="utf-8", newline="")
        tokenizer = Tokenizer(path)
    if tokenizer.vocab_size != config.model.text.vocab_size:
        raise UsageError(
            f"{origin} has {config.model.text.vocab_size} words, and its vocabulary "
            f"{tokenizer.vocab_size} entries with [DEC] and [ENC]: name the right one by --vocab"
        )
    with config.unlocked():
        config.model.tokens.update(tokenizer.special)


def save(converted: Converted, target: pathlib.Path, card: dict, overwrite: bool) -> None:
    """Writes a converted checkpoint as a model folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / VOCABULARY_FILE
        path.write_text(converted.entries, encoding="utf-8", newline="")
        model.save_model(target, converted.params, converted.config, path, card, overwrite)


def check_folder_target(target: str, overwrite: bool) -> pathlib.Path:
    """The folder that a model may be written to.

    Raises:
      UsageError: it holds anything that no conversion wrote, or is called like a checkpoint file.
    """
    path = model.check_model_target(target, overwrite)
    if files.has_torch_suffix(path):
        raise UsageError(
            f"{target} is called like a PyTorch file, but a PyTorch checkpoint becomes a model "
            "folder: name a folder"
        )
    return path


def to_pytorch(source: str, target: str, extras: str, overwrite: bool) -> str:
    """Writes a model folder as a .pth that the authors' code loads strictly.

    Args:
      extras: as of `convert.to_torch`.

    Returns:
      What was written, for the user.

    Raises:
      UsageError: the source cannot be read or has parts PyTorch has no place for, or the target is
        not free; nothing is written then.
    """
    model.resolve_model(source)
    path = local_path(target)
    if not files.has_torch_suffix(path) or path.suffix == ".safetensors":
        raise UsageError(f"{source} is a model folder, so the target has to be a .pth: {target}")
    check_target(path, overwrite, _carries_our_marker, "a .pth")
    found = model.load_model(source)
    if "attribute_decoder" not in found.params and extras != "keep":
        raise UsageError(
            f"{source} has no attribute decoder, so the authors' code cannot load it strictly: "
            "train one (config.init_from), or write what is there by --keep_extras"
        )
    tensors = to_torch(flat_arrays(found.params), extras)  # pyrefly: ignore[bad-argument-type]
    ours = {
        "config": json.loads(config_lib.to_json(found.config)),
        "vocab": found.vocab_path.read_bytes().decode("utf-8"),
    }
    files.write_checkpoint(path, tensors, {sizes.OUR_KEY: ours})
    return f"{len(tensors)} tensors in {path}"


def _carries_our_marker(path: pathlib.Path) -> bool:
    """Whether `path` is a .pth that this project wrote."""
    try:
        return path.is_file() and sizes.OUR_KEY in files.read_checkpoint(path).config
    except UsageError:
        return False
