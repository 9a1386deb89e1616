"""Compares a checkpoint in this network with the same one in Hugging Face's torch BLIP.

Their classes are an implementation nobody here wrote. They have both encoders, the decoder and the
match head (BlipForImageTextRetrieval) and the attribute decoder (BlipForConditionalGeneration).
"""

import importlib.util

import jax
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
from cada_jax.common.errors import MissingFileError
from cada_jax.config import load_config
from cada_jax.models.cada import from_config
from cada_jax.text.vocabulary import VOCABULARY_FILE
from tools.parity.golden import as_released
from tools.parity.hub_inputs import (
    encode_captions,
    pair_up,
    random_tokens,
    read_captions,
    read_images,
)
from tools.parity.hub_network import their_outputs
from tools.parity.table import Table

ROWS = 4  # pairs compared where the caller gives neither images nor captions


def check_checkpoint(path, config_name, dtype, images_dir=None, captions=None, vocab=None) -> Table:
    """Converts a checkpoint, runs both networks on the same input, compares layer by layer.

    Args:
      path: a checkpoint that `torch.files.read_checkpoint` reads.
      config_name: see `config.load_config`; "default" takes the sizes that the
        checkpoint shows.
      dtype: of our activations.
      images_dir: folder of photographs, or None for random images.
      captions: file with one caption per line, or None for random token ids.
      vocab: vocabulary file or hub name, needed by `captions`.

    Raises:
      UsageError: the checkpoint or an input cannot be used.
    """
    if importlib.util.find_spec("transformers") is None:
        raise MissingFileError(
            "--torch needs Hugging Face's transformers: pip install 'cada_jax[torch]'"
        )
    texts = read_captions(captions)
    checkpoint = files.read_checkpoint(path)
    config = as_released(load_config(config_name))
    leaves, _ = from_torch(checkpoint.tensors, str(path))
    set_sizes(config, leaves, checkpoint.config)
    if IMAGE_POSITIONS in leaves:
        set_image_size(config, leaves, checkpoint.config)
    config.model.tokens.dec = config.model.text.vocab_size - 2
    config.model.tokens.enc = config.model.text.vocab_size - 1
    config.model.dtype = dtype
    images = read_images(images_dir, config.model.image.size)
    token_ids = None
    if texts:
        beside = checkpoint.path / VOCABULARY_FILE
        token_ids = encode_captions(texts, vocab or (beside if beside.is_file() else None), config)
    rows = pair_up(images, token_ids) or ROWS
    rng = np.random.default_rng(0)
    if images is None:
        images = rng.standard_normal((rows, *config.model.image.size, 3)).astype(np.float32)
    if token_ids is None:
        token_ids = random_tokens(rng, config, rows)
    images, token_ids = (np.resize(x, (rows, *x.shape[1:])) for x in (images, token_ids))
    table = Table(dtype)
    compare_networks(table, config, checkpoint.tensors, images, token_ids)
    return table


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
