"""CADA on ICFG-PEDES. Variants: configs/icfg.py:released, :large, :384x128."""

from ml_collections import ConfigDict

from configs import default
from configs.variants import apply_variant


def get_config(variant: str | None = None) -> ConfigDict:
    """Returns the authors' recipe on ICFG-PEDES, changed by a variant of configs/variants.py."""
    c = default.get_config()
    c.data.name = "icfg"
    c.eval.rerank_top_k = 32
    c.eval.select_on = "test"  # there is no validation split
    return apply_variant(c, variant)
