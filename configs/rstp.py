"""CADA on RSTPReid. Variants: configs/rstp.py:released, :large, :384x128."""

from ml_collections import ConfigDict

from configs import default
from configs.variants import apply_variant


def get_config(variant: str | None = None) -> ConfigDict:
    """Returns the authors' recipe on RSTPReid, changed by a variant of configs/variants.py."""
    c = default.get_config()
    c.data.name = "rstp"
    c.eval.rerank_top_k = 128
    return apply_variant(c, variant)
