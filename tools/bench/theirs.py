"""PyTorch's side: Hugging Face's BLIP classes on the schedule of the released CADA code.

A training step: both encoders, the decoder over B positive and 2B negative pairs (keys and values
for each), the attribute decoder with vocabulary logits at every position, AdamW over everything.
Re-ranking: each text, padded to its full length, with all images, the text repeated for each.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BlipForConditionalGeneration, BlipForImageTextRetrieval

from tools.bench.programs import make_captions, make_images, make_train_batch
from tools.parity.hub_network import blip_config


class Network(nn.Module):
    """CADA's network put together from Hugging Face's BLIP, with random weights.

    Args:
      config: full config.
    """

    def __init__(self, config):
        super().__init__()
        blip = blip_config(config)
        blip.text_config.hidden_dropout_prob = config.model.text.dropout
        blip.text_config.attention_probs_dropout_prob = config.model.text.dropout
        self.matching = BlipForImageTextRetrieval(blip)
        self.words = BlipForConditionalGeneration(blip).text_decoder
        self.itm_local_head = nn.Linear(config.model.text.width, 2)
        self.tokens, self.loss, self.groups = config.model.tokens, config.loss, config.atp.groups

    def encode_image(self, pixels):
        """Float [B,3,H,W] -> [B,S,D]."""
        return self.matching.vision_model(pixel_values=pixels).last_hidden_state

    def encode_text(self, ids):
        """Ids int64 [M,L] -> [M,L,D]."""
        mask = (ids != self.tokens.pad).long()
        return self.matching.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    def decode(self, ids, image_tokens):
        """Ids int64 [M,L], float [M,S,D] -> [M,L,D]."""
        mask = (ids != self.tokens.pad).long()
        ids = torch.cat([torch.full_like(ids[:, :1], self.tokens.enc), ids[:, 1:]], dim=1)
        shape = image_tokens.shape[:2]
        return self.matching.text_encoder(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=image_tokens,
            encoder_attention_mask=torch.ones(shape, dtype=torch.long, device=ids.device),
        ).last_hidden_state

    def match(self, ids, image_tokens):
        """Match logits [M,2] of [ENC]."""
        return self.matching.itm_head(self.decode(ids, image_tokens)[:, 0])

    def total(self, pixels, ids, pids, masked_ids, labels):
        """The three losses of a batch, weighted."""
        image_tokens, text_tokens = self.encode_image(pixels), self.encode_text(ids)
        f = self.matching.vision_proj(image_tokens[:, 0]).float()
        g = self.matching.text_proj(text_tokens[:, 0]).float()
        other = pids[:, None] != pids[None]
        scores = self.loss.scale * F.normalize(f) @ F.normalize(g).T
        target = (~other).float() / (~other).float().sum(1, keepdim=True)
        spread = 0.0
        for s in (scores, scores.T):
            log_p, log_q = s.log_softmax(1), (target + 1e-8).log()
            spread = spread + (log_p.exp() * (log_p - log_q) + target * (log_q - log_p)).mean()
            spread = spread - (target * log_p).sum(1).mean()
        with torch.no_grad():
            similar = (g @ f.T).masked_fill(~other, float("-inf"))
            worst_image, worst_text = similar.argmax(1), similar.T.argmax(1)
        positive = self.decode(ids, image_tokens)
        negative = self.decode(
            torch.cat([ids, ids[worst_text]]),
            torch.cat([image_tokens[worst_image], image_tokens]),
        )
        decoded = torch.cat([positive, negative])
        is_match = torch.zeros(len(decoded), dtype=torch.long, device=ids.device)
        is_match[: len(ids)] = 1
        match = F.cross_entropy(self.matching.itm_head(decoded[:, 0]), is_match)
        means = decoded[:, 1:].unflatten(1, (self.groups, -1)).mean(2).flatten(0, 1)
        group = F.cross_entropy(self.itm_local_head(means), is_match.repeat_interleave(self.groups))
        logits = self.words(
            input_ids=masked_ids,
            attention_mask=(ids != self.tokens.pad).long(),
            encoder_hidden_states=image_tokens,
            use_cache=False,
        ).logits
        words = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)
        return spread / 2 + match + group + self.loss.ara_weight * words


def compiled_step(config) -> tuple[Callable[[], Any], int]:
    """(a call that trains one step, 0: PyTorch reserves no memory ahead)."""
    network, put = _network(config)
    update = torch.optim.AdamW(network.parameters(), lr=1e-5, weight_decay=0.05, fused=True)
    batch = make_train_batch(config, config.train.batch_size)
    phrases = batch["phrase_ids"]
    drawn = np.take_along_axis(np.random.default_rng(1).random(phrases.shape), phrases, axis=1)
    masked = (drawn < config.ara.phrase_rate) & (phrases > 0)
    ids = np.where(masked, config.model.tokens.mask, batch["token_ids"])
    labels = np.where(masked, batch["token_ids"], -100)
    arguments = put(_pixels(batch["image"]), batch["token_ids"], batch["pid"], ids, labels)
    total = _compiled(network.train().total)

    def run():
        update.zero_grad(set_to_none=True)
        with _mixed(config):
            loss = total(*arguments)
        loss.backward()
        update.step()
        return loss.item()  # waits for the device

    run()
    return run, 0


def reranking(config, mirror: bool, rows: int) -> tuple[Callable[[], Any], int]:
    """(a call that encodes images and scores every text with every one, bytes of its tokens)."""
    assert not mirror, "the released code scores no mirrored images"
    network, put = _network(config)
    pixels, ids = put(_pixels(make_images(config, rows)), make_captions(config, rows))
    encode, match = _compiled(network.eval().encode_image), _compiled(network.match)

    def run():
        with torch.no_grad(), _mixed(config):
            tokens = encode(pixels)
            scores = [match(text.expand(rows, -1), tokens)[:, 1] for text in ids]
            return torch.stack(scores).float().cpu(), tokens

    return run, run()[1].nbytes


def _network(config) -> tuple[Network, Callable]:
    """A network on its device, and what puts arrays there."""
    torch.manual_seed(0)
    if torch.cuda.is_available():
        _use_fused_attention()
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def put(*arrays):
        wide = (x if x.dtype == np.float32 else x.astype(np.int64) for x in arrays)
        return [torch.from_numpy(np.ascontiguousarray(x)).to(where) for x in wide]

    return Network(config).to(where), put


def _pixels(images: np.ndarray) -> np.ndarray:
    return np.moveaxis(images, -1, 1).astype(np.float32) / 127.5 - 1.0


def _compiled(call):
    return torch.compile(call) if torch.cuda.is_available() else call


def _mixed(config):
    if config.model.dtype == "float32":
        return contextlib.nullcontext()
    where = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(where, getattr(torch, config.model.dtype))


def _use_fused_attention() -> None:
    """Gives Hugging Face's BLIP torch's fused attention, which its own classes do not use."""
    from transformers.models.blip import modeling_blip, modeling_blip_text

    def text(self, hidden_states, attention_mask: Any = None, encoder_hidden_states=None, *_, **__):
        crossing = encoder_hidden_states is not None
        source = encoder_hidden_states if crossing else hidden_states
        heads = self.num_attention_heads
        inputs = (self.query, hidden_states), (self.key, source), (self.value, source)
        q, k, v = (layer(x).unflatten(-1, (heads, -1)).transpose(1, 2) for layer, x in inputs)
        mask = None if crossing else attention_mask.to(q.dtype)  # every image token is attended
        drop = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop)
        return mixed.transpose(1, 2).flatten(2), None

    def image(self, hidden_states, **_):
        qkv = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.projection(mixed.transpose(1, 2).flatten(2)), None

    modeling_blip_text.BlipTextSelfAttention.forward = text
    modeling_blip.BlipAttention.forward = image
