"""PyTorch's side: Hugging Face's BLIP classes on the schedule of the released CADA code.

A training step: both encoders, the decoder over B positive and 2B negative pairs (keys and values
for each), the attribute decoder with vocabulary logits at every position, AdamW over everything.
Re-ranking: each text, padded to 73 tokens, with its k images, the text repeated k times.
"""

import contextlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tools.bench import flops, work
from tools.bench.side import forget_peak_memory, peak_memory, stopwatch


class Network(nn.Module):
    """CADA's network put together from Hugging Face's BLIP.

    Args:
      config: full config.
      dropout: of the text side.
    """

    def __init__(self, config, dropout: float):
        from transformers import BlipForConditionalGeneration, BlipForImageTextRetrieval

        from tools.parity.hub_network import blip_config

        super().__init__()
        blip = blip_config(config)
        blip.text_config.hidden_dropout_prob = dropout
        blip.text_config.attention_probs_dropout_prob = dropout
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
        return self.matching.text_encoder(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=image_tokens,
            encoder_attention_mask=torch.ones(
                image_tokens.shape[:2], dtype=torch.long, device=ids.device
            ),
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


class Theirs:
    """PyTorch's counterpart of `ours.Ours`, with the same methods.

    Args:
      settings: of the work; `remat` is not read.
    """

    def __init__(self, settings: work.Settings):
        if settings.threads:
            torch.set_num_threads(settings.threads)
        torch.manual_seed(0)
        self.config = work.make_config(settings)
        self.batch, self.forward, self.words = settings.batch, settings.forward, settings.words
        self.now, self.dtype = stopwatch(settings.clock), getattr(torch, settings.dtype)
        self.gpu = torch.cuda.is_available()
        self.where = torch.device("cuda" if self.gpu else "cpu")
        if self.gpu:
            _use_fused_attention()
        self.network: Network | None = None
        self._run = None

    def device(self) -> str:
        """The accelerator's name, or "cpu"."""
        return torch.cuda.get_device_name() if self.gpu else "cpu"

    def product(self) -> float:
        """FLOP/s of a large square matrix product in the benchmark's type, the best of ten."""
        size = 8192 if self.gpu else 2048
        square = torch.ones(size, size, dtype=self.dtype, device=self.where)
        return 2 * size**3 / min(self._time(lambda: square @ square) for _ in range(10))

    def _time(self, run) -> float:
        start = self.now()
        run()
        if self.gpu:
            torch.cuda.synchronize()
        return self.now() - start

    def _mixed(self):
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.where.type, self.dtype)

    def load(self, path: str) -> None:
        """Takes the parameters that `Ours.save_torch` wrote."""
        network = self._network()
        with np.load(path) as file:
            state = {name: torch.from_numpy(file[name]) for name in file.files}
        missing = network.matching.load_state_dict(state, strict=False).missing_keys
        assert not missing, f"the file of parameters lacks {missing}"
        network.eval()

    def _network(self) -> Network:
        if self.network is None:
            self.network = Network(self.config, self.config.model.text.dropout).to(self.where)
        return self.network

    def _put(self, *arrays):
        return [torch.from_numpy(np.ascontiguousarray(x)).to(self.where) for x in arrays]

    def prepare(self, part: str) -> dict:
        """Builds a part and runs it, once on a CPU, thrice where it is compiled first."""
        self._run = None
        network, start = self._network(), self.now()
        if part == "train_step":
            self._run = self._train_step(network)
        else:
            pixels, ids, tokens = self._inputs()
            call = {
                "vit": lambda: network.encode_image(pixels),
                "text": lambda: network.encode_text(ids),
                "decoder": lambda: network.decode(ids, tokens),
            }[part]
            call = torch.compile(call) if self.gpu else call

            def run():
                network.eval()
                with torch.no_grad(), self._mixed():
                    call()

            self._run = run
        for _ in range(3 if self.gpu else 1):
            self._time(self._run)
        if self.gpu:
            torch.cuda.reset_peak_memory_stats()
        forget_peak_memory()
        return {"compile": self.now() - start}

    def _inputs(self):
        height, width = self.config.model.image.size
        rng = np.random.default_rng(0)
        pixels = rng.standard_normal((self.forward, 3, height, width), np.float32)
        ids = work.make_captions(self.config, self.forward, (72, 72)).astype(np.int64)
        shape = (self.forward, flops.image_tokens(self.config), self.config.model.image.width)
        return self._put(pixels, ids, rng.standard_normal(shape, np.float32))

    def _train_step(self, network):
        network.train()
        update = torch.optim.AdamW(network.parameters(), lr=1e-5, weight_decay=0.05, fused=True)
        batch = work.make_train_batch(self.config, self.batch, self.words)
        masked, labels = work.mask_for_torch(self.config, batch)
        pixels = np.moveaxis(batch["image"], -1, 1).astype(np.float32) / 127.5 - 1.0
        numbers = [x.astype(np.int64) for x in (batch["token_ids"], batch["pid"], masked, labels)]
        args = self._put(pixels, *numbers)
        total = torch.compile(network.total) if self.gpu else network.total

        def run():
            network.train()
            update.zero_grad(set_to_none=True)
            with self._mixed():
                loss = total(*args)
            loss.backward()
            update.step()

        return run

    def run(self) -> float:
        """Seconds of one run of the part prepared last."""
        return self._time(self._run)

    def peak(self) -> int:
        """Bytes held at most since the part was prepared; on the accelerator where there is one."""
        return torch.cuda.max_memory_allocated() if self.gpu else peak_memory()

    def rerank(self, token_ids: np.ndarray, image_tokens: np.ndarray) -> tuple[float, np.ndarray]:
        """(seconds, match logits [k]) of one text int32 [L] with its k images."""
        network = self._network()
        ids, tokens = self._put(token_ids[None].astype(np.int64), image_tokens)
        out = []

        def run():
            with torch.no_grad(), self._mixed():
                out.append(network.match(ids.expand(len(tokens), -1), tokens)[:, 1])

        seconds = self._time(run)
        return seconds, out[0].float().cpu().numpy()


def _use_fused_attention() -> None:
    """Gives Hugging Face's BLIP torch's fused attention, which its own classes do not use."""
    from transformers.models.blip import modeling_blip, modeling_blip_text

    def text(self, hidden_states, attention_mask: Any = None, encoder_hidden_states=None, *_, **__):
        crossing = encoder_hidden_states is not None
        source = encoder_hidden_states if crossing else hidden_states
        heads = self.num_attention_heads
        q, k, v = (
            layer(x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for layer, x in (
                (self.query, hidden_states),
                (self.key, source),
                (self.value, source),
            )
        )
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
