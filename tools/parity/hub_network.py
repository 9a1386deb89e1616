"""Hugging Face's torch BLIP with the weights of a checkpoint, and what it gives layer by layer."""

import numpy as np

from cada_jax.checkpoints.torch.names import dialect_of, translate
from cada_jax.common.errors import UsageError


def blip_config(config):
    """The BlipConfig of the model that a full config describes.

    Raises:
      UsageError: Hugging Face's classes have no such model.
    """
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
        network = getattr(transformers, kind)(blip_config(config))
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


class _Outputs(dict):
    """What was computed: (part, name) -> array."""

    def listen(self, part: str, layers) -> list:
        """Keeps what the layers of a part give from now on; returns hooks that end it."""

        def keep(i):
            def hook(module, inputs, output):
                hidden = output[0] if isinstance(output, tuple) else output
                self[part, f"layer {i}"] = hidden.numpy()

            return hook

        return [layer.register_forward_hook(keep(i)) for i, layer in enumerate(layers)]

    def encode_images(self, network, pixels):
        """Runs a network's image encoder and returns its tokens [B,S,Dv]."""
        self.listen("image encoder", network.vision_model.encoder.layers)
        tokens = network.vision_model(pixel_values=pixels).last_hidden_state
        self["image encoder", "tokens"] = tokens.numpy()
        return tokens


def _matching(out: _Outputs, config, tensors, pixels, ids, mask):
    """Both encoders and the association decoder; returns the image tokens."""
    import torch

    network = build_torch_network("BlipForImageTextRetrieval", config, tensors)
    image_tokens = out.encode_images(network, pixels)
    out["image encoder", "embedding"] = network.vision_proj(image_tokens[:, 0]).numpy()
    hooks = out.listen("text encoder", network.text_encoder.encoder.layer)
    text = network.text_encoder(input_ids=ids, attention_mask=mask)
    out["text encoder", "embedding"] = network.text_proj(text.last_hidden_state[:, 0]).numpy()
    for hook in hooks:
        hook.remove()
    out.listen("decoder", network.text_encoder.encoder.layer)
    ids_enc = ids.clone()
    ids_enc[:, 0] = config.model.tokens.enc
    decoded = network.text_encoder(
        input_ids=ids_enc,
        attention_mask=mask,
        encoder_hidden_states=image_tokens,
        encoder_attention_mask=torch.ones(image_tokens.shape[:2], dtype=torch.long),
    )
    logits = network.itm_head(decoded.last_hidden_state[:, 0])
    out["decoder", "match logits"] = logits.numpy()
    return image_tokens


def their_outputs(config, tensors, images, token_ids) -> dict[tuple[str, str], np.ndarray]:
    """Every output of the parts that a checkpoint has: (part, name) -> array.

    Args:
      config: full config with the checkpoint's sizes.
      tensors: of the checkpoint, in either set of PyTorch names.
      images: normalised float32 [B,H,W,3].
      token_ids: int32 [B,L].
    """
    import torch

    out = _Outputs()
    dialect = dialect_of(tensors)
    parts = {(translate(n, dialect, "hf") or "").split(".")[0] for n in tensors}
    pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
    ids = torch.from_numpy(token_ids.astype(np.int64))
    mask = (ids != config.model.tokens.pad).long()
    image_tokens = None
    with torch.no_grad():
        if "text_encoder" in parts:
            image_tokens = _matching(out, config, tensors, pixels, ids, mask)
        if "text_decoder" in parts:
            network = build_torch_network("BlipForConditionalGeneration", config, tensors)
            if image_tokens is None:
                image_tokens = out.encode_images(network, pixels)
            out.listen("attribute decoder", network.text_decoder.bert.encoder.layer)
            logits = network.text_decoder(
                input_ids=ids, attention_mask=mask, encoder_hidden_states=image_tokens
            ).logits
            out["attribute decoder", "logits"] = (logits * mask[..., None]).numpy()
    return dict(out)
