"""Generated people and a small model: minutes on a laptop CPU, nothing to download.

`configs/synthetic.py` fine-tunes a small pretrained model that the package ships, as CADA
fine-tunes BLIP: it has seen people elsewhere, and none of these. `configs/synthetic.py:NAME`
changes it by one of `VARIANTS` below.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from configs import default


def get_config(variant: str | None = None) -> ConfigDict:
    """Returns the demo's config, changed by a variant.

    Raises:
      UsageError: unknown variant; lists the known ones.
    """
    c = default.get_config()
    c.init_from = "pretrained:abroad"
    c.data.name = "synthetic"
    c.data.variant = "demo"
    c.data.image_size = (96, 48)
    c.data.max_length = 49
    image, text = c.model.image, c.model.text
    image.patch = (8, 16)
    image.stem = "conv"
    image.depth = 3
    text.stem = "conv"
    text.vocab_size = 317
    text.depth = 2
    text.max_positions = 49
    text.dropout = 0.0
    for part in (image, text):
        part.width = 96
        part.heads = 3
        part.mlp_dim = 192
    c.model.embed_dim = 96
    c.model.tokens = ConfigDict({"pad": 0, "cls": 2, "sep": 3, "mask": 4, "dec": 315, "enc": 316})
    c.augment.pad = 2
    c.augment.erase = 0.25
    c.augment.erase_area = (0.02, 0.15)
    c.optimizer.learning_rate = 2e-3
    c.optimizer.warmup_steps = 50
    c.optimizer.schedule = "step"
    c.optimizer.clip_norm = 1.0
    c.train.batch_size = 64
    c.loss.atp_weight = 2.0  # the decoder learns more slowly than the embeddings
    c.loss.ara_weight = 2.0  # at 0.1 a hundredth of what moves the image encoder comes from ARA
    c.train.epochs = 5
    c.train.eval_every = 0  # scoring takes as long as an epoch
    c.eval.batch_size = 128
    c.eval.rerank_top_k = 32
    if variant:
        if variant not in VARIANTS:
            raise UsageError(
                f"unknown variant {variant!r} of --config=configs/synthetic.py:VARIANT: "
                f"expected one of {', '.join(VARIANTS)}"
            )
        VARIANTS[variant](c)
    return c


def _scratch(c: ConfigDict) -> None:
    """From random weights, as long as the demo's budget of time allows."""
    c.init_from = None
    c.optimizer.learning_rate = 3e-3
    c.optimizer.warmup_steps = 200
    c.augment.erase = 0.0
    c.atp.negatives = "sampled"
    _paper_weights(c)
    c.train.epochs = 4
    c.train.eval_every = 1


def _paper_weights(c: ConfigDict) -> None:
    """The paper's weights of the losses."""
    c.loss.atp_weight = 1.0
    c.loss.ara_weight = 0.1


def _pretrain(c: ConfigDict) -> None:
    """The model for searching, from encoders that `python -m tools.pretrain_attributes` made."""
    c.init_from = "runs/attributes"
    c.data.variant = "pretrain"
    c.augment.erase = 0.0
    c.atp.negatives = "sampled"  # as BLIP samples them
    _paper_weights(c)
    c.optimizer.learning_rate = 2.5e-3
    c.optimizer.warmup_steps = 200
    c.train.epochs = 3
    c.train.eval_every = 1


def _abroad(c: ConfigDict) -> None:
    """The start of the demo: as `pretrain`, in a world that looks and speaks otherwise."""
    _pretrain(c)
    c.data.variant = "abroad"
    c.eval.select = "last"  # the best on 100 persons is chance


def _encoders(c: ConfigDict) -> None:
    """As `abroad`, by the global loss alone: a start that no decoder has taken part in."""
    _abroad(c)
    _no_atp(c)
    _no_ara(c)
    _no_gate(c)


def _matched(c: ConfigDict) -> None:
    """As `abroad` without the gate: decoders that match and name words, as those of BLIP do."""
    _abroad(c)
    _no_gate(c)


def _plain(c: ConfigDict) -> None:
    """As `matched` without convolutional stems: a network that the authors' code can load."""
    _matched(c)
    c.model.image.stem = "patch"
    c.model.text.stem = "embed"


def _crowd(c: ConfigDict) -> None:
    """2,000 test persons, many of whom differ only in which garment has which colour."""
    c.init_from = "pretrained:matched"
    c.data.variant = "crowd"
    c.optimizer.learning_rate = 2.5e-3  # even persons that it trains on are often confused
    c.optimizer.warmup_steps = 100
    c.train.epochs = 4
    c.train.eval_every = 1
    c.eval.select = "last"  # the best on 100 persons is chance: it cost a run 1.5 points


def _tiny(c: ConfigDict) -> None:
    """A handful of persons: whether everything runs, in a minute; the scores mean nothing."""
    _scratch(c)
    c.data.variant = "tiny"
    c.train.batch_size = 16
    c.train.epochs = 2
    c.train.log_every = 2


def _no_atp(c: ConfigDict) -> None:
    """Without the association of tokens to patches: nothing is left to re-rank with."""
    c.loss.atp_weight = 0.0
    c.eval.rerank_top_k = 0
    c.eval.select_metric = "global/R1"


def _no_ara(c: ConfigDict) -> None:
    """Without the prediction of masked attributes."""
    c.loss.ara_weight = 0.0


def _no_gate(c: ConfigDict) -> None:
    """Without the ATP gate."""
    c.atp.gate = "off"


def _token_masking(c: ConfigDict) -> None:
    """Single attribute words masked, not whole phrases."""
    c.ara.masking = "token"


VARIANTS: dict[str, Callable[[ConfigDict], None]] = {
    "scratch": _scratch,
    "pretrain": _pretrain,
    "abroad": _abroad,
    "encoders": _encoders,
    "matched": _matched,
    "plain": _plain,
    "crowd": _crowd,
    "tiny": _tiny,
    "no_atp": _no_atp,
    "no_ara": _no_ara,
    "no_gate": _no_gate,
    "token_masking": _token_masking,
}
