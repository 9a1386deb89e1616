"""Compares a checkpoint in this network with the same one in Hugging Face's torch BLIP.

Their classes are an implementation nobody here wrote. They have both encoders, the decoder and the
match head (BlipForImageTextRetrieval) and the attribute decoder (BlipForConditionalGeneration).
"""

import importlib.util
import pathlib

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image

from cada_jax.checkpoints.torch import convert, files
from cada_jax.checkpoints.torch.names import dialect_of, translate
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.images import read_rgb
from cada_jax.models.cada import from_config, init_params
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.text.tokenizer import clean_caption, load_tokenizer
from config_file import load_config
from parity.golden import as_released
from parity.table import Table

ROWS = 4  # pairs compared where the caller gives neither images nor captions
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def check_checkpoint(path, config_name, dtype, images_dir=None, captions=None, vocab=None) -> Table:
    """Converts a checkpoint, runs both networks on the same input, compares layer by layer.

    Args:
      path: a checkpoint that `torch_files.read_checkpoint` reads.
      config_name: see `config_file.load_config`; "default" takes the sizes the checkpoint shows.
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
    checkpoint = files.read_checkpoint(path)
    config = as_released(load_config(config_name))
    if config_name == "default":
        convert.infer_sizes(checkpoint.tensors, config)
    _as_stored(config, checkpoint)
    config.model.dtype = dtype
    images = _read_images(images_dir, config.model.image.size)
    token_ids = _read_captions(captions, vocab, checkpoint, config)
    rows = max(len(x) for x in (images, token_ids) if x is not None) if captions else None
    rows = rows or (len(images) if images is not None else ROWS)
    rng = np.random.default_rng(0)
    if images is None:
        images = rng.standard_normal((rows, *config.model.image.size, 3)).astype(np.float32)
    if token_ids is None:
        token_ids = random_tokens(rng, config, rows)
    images, token_ids = (np.resize(x, (rows, *x.shape[1:])) for x in (images, token_ids))
    table = Table(dtype)
    compare_networks(table, config, checkpoint.tensors, images, token_ids)
    return table


def _as_stored(config, checkpoint):
    """Takes vocabulary, patch, positions and image size as the checkpoint has them."""
    dialect = dialect_of(checkpoint.tensors)
    shapes = {translate(n, dialect, "cada"): x.shape for n, x in checkpoint.tensors.items()}
    for side in ("text_encoder", "text_decoder.bert"):
        words = shapes.get(f"{side}.embeddings.word_embeddings.weight")
        if words:
            config.model.text.vocab_size = words[0]
            config.model.tokens.dec, config.model.tokens.enc = words[0] - 2, words[0] - 1
            positions = shapes[f"{side}.embeddings.position_embeddings.weight"]
            config.model.text.max_positions = positions[0]
    if "visual_encoder.patch_embed.proj.weight" in shapes:
        config.model.image.patch = shapes["visual_encoder.patch_embed.proj.weight"][2:]
    positions = shapes.get("visual_encoder.pos_embed")
    patch = config.model.image.patch
    grid = convert.stored_grid(checkpoint)
    side = round((positions[1] - 1) ** 0.5) if positions else 0
    if grid is None and positions and side * side == positions[1] - 1:
        grid = side, side
    if grid:
        config.data.image_size = tuple(g * p for g, p in zip(grid, patch, strict=True))


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


def _read_images(folder, size) -> np.ndarray | None:
    if folder is None:
        return None
    root = pathlib.Path(folder)
    paths = sorted(p for p in root.glob("*") if p.suffix.lower() in PICTURES)
    if not paths:
        raise MissingFileError(f"--images={folder}: no {', '.join(PICTURES)} file in there")
    pictures = []
    for path in paths:
        picture = Image.fromarray(read_rgb(path))
        pictures.append(np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR)))
    return np.asarray(normalize_pixels(np.stack(pictures)))


def _read_captions(file, vocab, checkpoint, config) -> np.ndarray | None:
    if file is None:
        return None
    vocab = vocab or checkpoint.vocab
    if vocab is None:
        raise UsageError("--captions needs --vocab, the vocabulary file or hub name")
    try:
        lines = pathlib.Path(file).read_text(encoding="utf-8").splitlines()
    except OSError as err:
        raise MissingFileError(f"--captions={file} cannot be read: {err}") from err
    texts = [clean_caption(line) for line in lines if line.strip()]
    if not texts:
        raise UsageError(f"--captions={file} holds no caption; expected one per line")
    tokenizer = load_tokenizer(vocab)
    length = config.data.max_length
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
    ours = _our_outputs(config, tensors, images, token_ids)
    theirs = _their_outputs(config, tensors, images, token_ids)
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


def _our_outputs(config, tensors, images, token_ids) -> dict[tuple[str, str], np.ndarray]:
    model = from_config(config)
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda key: init_params(model, config, key), key)
    flat = {path: leaf.shape for path, leaf in flatten_dict(shapes, sep="/").items()}
    image = config.model.image
    grid = tuple(s // p for s, p in zip(image.size, image.patch, strict=True))
    leaves, _ = convert.from_torch(tensors, flat, grid, grid)
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

    image_tokens, seen = run("encode_image", images)
    keep_layers("image encoder", seen["image_encoder"]["blocks"]["hidden"])
    out["image encoder", "tokens"] = image_tokens
    valid = token_ids != config.model.tokens.pad
    if "text_encoder" in parts:
        text_tokens, seen = run("encode_text", token_ids)
        keep_layers("text encoder", seen["text_encoder"]["layers"]["hidden"])
        decoded, seen = run("decode", token_ids, image_tokens)
        keep_layers("decoder", seen["text_encoder"]["layers"]["hidden"])
        if "itm_head" in parts:
            out["decoder", "match logits"] = run("match", decoded)[0]
        if "vision_proj" in parts:
            out["image encoder", "embedding"] = run("project_image", image_tokens)[0]
            out["text encoder", "embedding"] = run("project_text", text_tokens)[0]
    if "attribute_decoder" in parts:
        logits, seen = run("predict_masked", token_ids, valid, image_tokens)
        seen = seen["attribute_decoder"]
        keep_layers("attribute decoder", seen["bert"]["layers"]["hidden"])
        out["attribute decoder", "logits"] = np.asarray(logits) * valid[..., None]
    return {name: np.asarray(x) for name, x in out.items()}


def _blip_config(config):
    from transformers import BlipConfig

    image, text = config.model.image, config.model.text
    if image.patch[0] != image.patch[1] or image.size[0] != image.size[1] or image.stem != "patch":
        raise UsageError(
            "Hugging Face's BLIP has square images, square patches and no convolutional stem; "
            f"this model has {tuple(image.size)}, {tuple(image.patch)} and stem {image.stem!r}"
        )
    vision = dict(
        hidden_size=image.width,
        intermediate_size=image.mlp_dim,
        num_hidden_layers=image.depth,
        num_attention_heads=image.heads,
        image_size=image.size[0],
        patch_size=image.patch[0],
        layer_norm_eps=1e-6,  # their default is 1e-5; BLIP's and CADA's own code has 1e-6
    )
    words = dict(
        vocab_size=text.vocab_size,
        hidden_size=text.width,
        encoder_hidden_size=image.width,
        intermediate_size=text.mlp_dim,
        num_hidden_layers=text.depth,
        num_attention_heads=text.heads,
        max_position_embeddings=text.max_positions,
        layer_norm_eps=1e-12,
        pad_token_id=config.model.tokens.pad,
    )
    return BlipConfig(
        vision_config=vision, text_config=words, image_text_hidden_size=config.model.embed_dim
    )


def build_torch_network(kind: str, config, tensors):
    """A Hugging Face network with a checkpoint's weights, in evaluation mode.

    Args:
      kind: "BlipForImageTextRetrieval" or "BlipForConditionalGeneration".
      config: full config.
      tensors: in either set of PyTorch names; what the class has no place for is left out.

    Raises:
      UsageError: the class lacks weights that the checkpoint does not have.
    """
    import torch
    import transformers

    with torch.device("meta"):
        network = getattr(transformers, kind)(_blip_config(config))
    network = network.to_empty(device="cpu").eval()
    places = network.state_dict()
    dialect = dialect_of(tensors)
    named = {translate(name, dialect, "hf"): x for name, x in tensors.items()}
    state = {n: torch.from_numpy(np.array(x)) for n, x in named.items() if n in places}
    missing = set(network.load_state_dict(state, strict=False).missing_keys)
    missing -= {name for name in missing if ".predictions.decoder." in name}
    if missing:
        raise UsageError(f"{kind} needs {', '.join(sorted(missing)[:5])} ({len(missing)} tensors)")
    network.tie_weights()
    for module in network.modules():  # buffers that the meta device left without values
        if hasattr(module, "position_ids"):
            module.position_ids = torch.arange(module.position_ids.shape[-1])[None]
    return network


def _their_outputs(config, tensors, images, token_ids) -> dict[tuple[str, str], np.ndarray]:
    import torch

    out: dict[tuple[str, str], np.ndarray] = {}

    def listen(part, layers):
        def keep(i):
            def hook(module, inputs, output):
                hidden = output[0] if isinstance(output, tuple) else output
                out[part, f"layer {i}"] = hidden.numpy()

            return hook

        return [layer.register_forward_hook(keep(i)) for i, layer in enumerate(layers)]

    dialect = dialect_of(tensors)
    parts = {(translate(n, dialect, "hf") or "").split(".")[0] for n in tensors}
    pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
    ids = torch.from_numpy(token_ids.astype(np.int64))
    mask = (ids != config.model.tokens.pad).long()
    with torch.no_grad():
        if "text_encoder" in parts:
            network = build_torch_network("BlipForImageTextRetrieval", config, tensors)
            listen("image encoder", network.vision_model.encoder.layers)
            image_tokens = network.vision_model(pixel_values=pixels).last_hidden_state
            out["image encoder", "tokens"] = image_tokens.numpy()
            out["image encoder", "embedding"] = network.vision_proj(image_tokens[:, 0]).numpy()
            hooks = listen("text encoder", network.text_encoder.encoder.layer)
            text = network.text_encoder(input_ids=ids, attention_mask=mask)
            embedding = network.text_proj(text.last_hidden_state[:, 0])
            out["text encoder", "embedding"] = embedding.numpy()
            for hook in hooks:
                hook.remove()
            listen("decoder", network.text_encoder.encoder.layer)
            ids_enc = ids.clone()
            ids_enc[:, 0] = config.model.tokens.enc
            everywhere = torch.ones(image_tokens.shape[:2], dtype=torch.long)
            decoded = network.text_encoder(
                input_ids=ids_enc,
                attention_mask=mask,
                encoder_hidden_states=image_tokens,
                encoder_attention_mask=everywhere,
            )
            logits = network.itm_head(decoded.last_hidden_state[:, 0])
            out["decoder", "match logits"] = logits.numpy()
            del network
        if "text_decoder" in parts:
            network = build_torch_network("BlipForConditionalGeneration", config, tensors)
            if ("image encoder", "tokens") not in out:
                listen("image encoder", network.vision_model.encoder.layers)
                image_tokens = network.vision_model(pixel_values=pixels).last_hidden_state
                out["image encoder", "tokens"] = image_tokens.numpy()
            listen("attribute decoder", network.text_decoder.bert.encoder.layer)
            logits = network.text_decoder(
                input_ids=ids, attention_mask=mask, encoder_hidden_states=image_tokens
            ).logits
            out["attribute decoder", "logits"] = (logits * mask[..., None]).numpy()
    return out
