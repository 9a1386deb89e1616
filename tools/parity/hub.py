"""Compares a checkpoint in this network with the same one in Hugging Face's torch BLIP.

Their classes are an implementation nobody here wrote. They have both encoders, the decoder and the
match head (BlipForImageTextRetrieval) and the attribute decoder (BlipForConditionalGeneration).
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from cada_jax.checkpoints.torch import files
from cada_jax.checkpoints.torch.convert import from_torch
from cada_jax.checkpoints.torch.sizes import (
    IMAGE_POSITIONS,
    check_sizes,
    set_image_size,
    set_sizes,
)
from cada_jax.config import load_config
from cada_jax.gallery.scan import find_files
from cada_jax.models.cada import from_config
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.retrieval.images import pixels_of
from cada_jax.text.tokenizer import clean_caption, load_tokenizer
from cada_jax.text.vocabulary import VOCABULARY_FILE
from tools.parity.golden import as_released
from tools.parity.hub_network import their_outputs
from tools.parity.table import Table

ROWS = 4  # random images, and captions


def check_checkpoint(path, config_name, dtype, images_dir=None, captions=None, vocab=None) -> Table:
    """Converts a checkpoint, runs both networks on the same input, compares layer by layer.

    Args:
      path: a checkpoint that `torch.files.read_checkpoint` reads.
      config_name: see `config.load_config`; "default" takes the sizes that the
        checkpoint shows.
      dtype: of our activations.
      images_dir: folder of photographs, or None for random images.
      captions: UTF-8 file with one caption per line, or None for random token ids.
      vocab: vocabulary file or hub name, needed by `captions` unless the checkpoint has one.

    Raises:
      UsageError: the checkpoint or an input cannot be used.
    """
    checkpoint = files.read_checkpoint(path)
    config = as_released(load_config(config_name))
    leaves, _ = from_torch(checkpoint.tensors, str(path))
    set_sizes(config, leaves, checkpoint.config)
    if IMAGE_POSITIONS in leaves:
        set_image_size(config, leaves, checkpoint.config)
    config.model.tokens.dec = config.model.text.vocab_size - 2
    config.model.tokens.enc = config.model.text.vocab_size - 1
    config.model.dtype = dtype
    rng = np.random.default_rng(0)
    images = rng.standard_normal((ROWS, *config.model.image.size, 3)).astype(np.float32)
    token_ids = random_tokens(rng, config, ROWS)
    if images_dir:
        images = read_images(images_dir, config.model.image.size)
    if captions:
        token_ids = read_captions(captions, vocab or checkpoint.path / VOCABULARY_FILE, config)
    rows = max(len(images), len(token_ids))  # the shorter side is used again from its first
    images, token_ids = (np.resize(x, (rows, *x.shape[1:])) for x in (images, token_ids))
    table = Table(dtype)
    compare_networks(table, config, checkpoint.tensors, images, token_ids)
    return table


def random_tokens(rng, config, rows: int) -> np.ndarray:
    """Token ids int32 [rows,L] of texts of different lengths, without special tokens inside."""
    length, tokens = config.data.max_length, config.model.tokens
    words = np.setdiff1d(np.arange(config.model.text.vocab_size), list(tokens.values()))
    token_ids = rng.choice(words, (rows, length)).astype(np.int32)
    ends = rng.integers(length // 3, length, rows)
    token_ids[np.arange(length)[None] > ends[:, None]] = tokens.pad
    token_ids[np.arange(rows), ends] = tokens.sep
    token_ids[:, 0] = tokens.cls
    return token_ids


def read_images(folder, size: tuple[int, int]) -> np.ndarray:
    """The pictures of a folder by their names, normalised: float32 [B,H,W,3]."""
    pictures = [pixels_of(file.path, size) for file in find_files([folder]).files]
    return np.asarray(normalize_pixels(jnp.asarray(np.stack(pictures))))


def read_captions(file, vocab, config) -> np.ndarray:
    """Token ids int32 [B,L] of a UTF-8 file with one caption on each line."""
    lines = pathlib.Path(file).read_text(encoding="utf-8-sig").splitlines()
    tokenizer, length = load_tokenizer(vocab), config.data.max_length
    texts = [clean_caption(line) for line in lines if line.strip()]
    return np.stack([tokenizer.encode(text, length)[0] for text in texts])


def compare_networks(table: Table, config, tensors, images, token_ids) -> None:
    """Runs both networks and compares every layer of every part the checkpoint has.

    Args:
      table: takes the rows; each case is one part.
      config: full config with the checkpoint's sizes, gate off.
      tensors: of the checkpoint, in either set of PyTorch names.
      images: normalised float32 [B,H,W,3].
      token_ids: int32 [B,L].
    """
    ours = our_outputs(config, tensors, images, token_ids)
    theirs = their_outputs(config, tensors, images, token_ids)
    for (part, name), wanted in theirs.items():
        got = ours[part, name]
        if name in ("tokens", "hidden") or name.startswith("layer"):
            # What stands at padding positions depends on the mask's finite value; nobody reads it.
            real = (token_ids != config.model.tokens.pad)[..., None]
            if part != "image encoder":
                got, wanted = got * real, wanted * real
        table.compare(part, name, got, wanted)
    failed = next((row for row in table.rows if row.status == "FAIL"), None)
    if failed:
        print(f"First to diverge: {failed.quantity} of the {failed.case}")


def our_outputs(config, tensors, images, token_ids) -> dict[tuple[str, str], np.ndarray]:
    """This network's outputs under the keys and arguments of `their_outputs`."""
    model = from_config(config)
    leaves, _ = from_torch(tensors)
    check_sizes(config, leaves, "the checkpoint")
    parts = {path.split("/")[0] for path in leaves}
    variables = {"params": unflatten_dict(leaves, sep="/")}
    out = {}

    def run(method, *args):
        def apply(variables, *args):
            return model.apply(variables, *args, method=method, mutable=["intermediates"])

        result, seen = jax.jit(apply)(variables, *args)
        return result, seen["intermediates"] if seen else {}

    def keep_layers(part, hidden):
        out.update({(part, f"layer {i}"): np.asarray(x) for i, x in enumerate(hidden[0])})

    (image, image_tokens), seen = run("encode_image", images)
    keep_layers("image encoder", seen["image_encoder"]["blocks"]["hidden"])
    out["image encoder", "tokens"] = image_tokens
    valid = token_ids != config.model.tokens.pad
    if "text_encoder" in parts:
        (text, _), seen = run("encode_text", token_ids)
        keep_layers("text encoder", seen["text_encoder"]["layers"]["hidden"])
        decoded, seen = run("decode", token_ids, image_tokens)
        keep_layers("decoder", seen["text_encoder"]["layers"]["hidden"])
        if "itm_head" in parts:
            out["decoder", "match logits"] = run("match", decoded)[0]
        if "vision_proj" in parts:
            out["image encoder", "embedding"] = run("project_image", image)[0]
            out["text encoder", "embedding"] = run("project_text", text)[0]
    if "attribute_decoder" in parts:
        decoded, seen = run("decode_masked", token_ids, valid, image_tokens)
        logits, _ = run("masked_logits", decoded)
        seen = seen["attribute_decoder"]
        keep_layers("attribute decoder", seen["bert"]["layers"]["hidden"])
        out["attribute decoder", "logits"] = np.asarray(logits) * valid[..., None]
    return {name: np.asarray(x) for name, x in out.items()}
