"""The one table of fields, by group.

Everything else about the configuration is derived from it: `default_config`, `validate`, the
spelling of overrides, `FREE_KEYS` and the list that `python -m cada_jax.config` prints. The
defaults are those of full-size CADA (ViT-B/16 and BERT base on 224x224 images); the recipe is the
one that the authors' code runs.
"""

from cada_jax.config.fields import data, model, objective, running
from cada_jax.config.fields.field import Field

FIELDS: tuple[Field, ...] = (*data.FIELDS, *model.FIELDS, *objective.FIELDS, *running.FIELDS)
BY_NAME: dict[str, Field] = {field.name: field for field in FIELDS}
