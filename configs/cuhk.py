"""CADA on CUHK-PEDES. Variants: configs/cuhk.py:released, :large, :384x128."""

from ml_collections import ConfigDict

from configs import default
from configs.variants import apply_variant


def get_config(variant: str | None = None) -> ConfigDict:
    """Returns the authors' recipe on CUHK-PEDES, changed by a variant of configs/variants.py."""
    c = default.get_config()
    c.data.name = "cuhk"
    c.eval.rerank_top_k = 32
    return apply_variant(c, variant)
