"""CADA on one's own folder of images and captions. Variants as of configs/rstp.py."""

from ml_collections import ConfigDict

from configs import default
from configs.variants import apply_variant


def get_config(variant: str | None = None) -> ConfigDict:
    """Returns the authors' recipe on a prepared folder, changed by a variant of variants.py."""
    c = default.get_config()
    c.data.name = "folder"
    return apply_variant(c, variant)
