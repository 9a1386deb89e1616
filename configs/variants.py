"""Variants that the three benchmarks share: `--config=configs/rstp.py:NAME`."""

from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError


def apply_variant(config: ConfigDict, name: str | None) -> ConfigDict:
    """Changes a benchmark's config in place by a variant, and returns it.

    Args:
      config: what configs/default.py and the benchmark state.
      name: one of `VARIANTS`; None or "" leaves the config as it is.

    Raises:
      UsageError: unknown name; lists the known ones.
    """
    if name:
        if name not in VARIANTS:
            raise UsageError(
                f"unknown variant {name!r} of --config=configs/{config.data.name}.py:VARIANT: "
                f"expected one of {', '.join(VARIANTS)}"
            )
        VARIANTS[name](config)
    return config


def _released(config: ConfigDict) -> None:
    """Every switch as the authors' code has it, those that agree with the default too."""
    config.data.captions = "first2"
    config.data.tagger = "nltk"
    config.data.tag_unit = "wordpiece"
    config.atp.gate = "off"
    config.atp.negatives = "underflow"
    config.atp.group_pool = "all"
    config.ara.masking = "token"
    config.ara.token_rate = 0.4
    config.ara.causal = True
    config.optimizer.schedule = "epoch"
    config.optimizer.decay = "all"
    config.optimizer.warmup_steps = 0
    config.optimizer.clip_norm = 0.0
    config.eval.select_on = "test"


def _large(config: ConfigDict) -> None:
    """ViT-L/16."""
    config.model.image.width = 1024
    config.model.image.depth = 24
    config.model.image.heads = 16
    config.model.image.mlp_dim = 4096
    config.model.image.drop_path = 0.1


def _tall(config: ConfigDict) -> None:
    """Images of a person's shape, 24 x 8 patches; position embeddings are resized to it."""
    config.data.image_size = (384, 128)


VARIANTS = {"released": _released, "large": _large, "384x128": _tall}
