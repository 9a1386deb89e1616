"""The rows of the ablation table, as data: what each changes, and which row it is compared with."""

import dataclasses
import difflib
from typing import Any

from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.config import apply_overrides, validate

Changes = dict[str, Any]

_NO_ATP: Changes = {
    "loss.atp_weight": 0.0,
    "eval.rerank_top_k": 0,  # nothing is left to re-rank with
    "eval.select_metric": "global/R1",
}
_NO_ARA: Changes = {"loss.ara_weight": 0.0}
_NO_GATE: Changes = {"atp.gate": "off"}
# `configs/variants.py:released`, but for three fields. The data of a table is one: its tagger and
# tag_unit stay. All rows are selected on val: eval.select_on stays.
_RELEASED: Changes = {
    "data.captions": "first2",
    "atp.gate": "off",
    "atp.negatives": "underflow",
    "atp.group_pool": "all",
    "ara.masking": "token",
    "ara.token_rate": 0.4,
    "ara.causal": True,
    "optimizer.schedule": "epoch",
    "optimizer.decay": "all",
    "optimizer.warmup_steps": 0,
    "optimizer.clip_norm": 0.0,
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
      name: on the command line, and of the folders of its runs.
      title: in the table.
      changes: field -> value, on top of the configuration that all rows share.
      against: name of the row that it is compared with; None for the first.
    """

    name: str
    title: str
    changes: Changes
    against: str | None


# The first five add one part after another. The others change one choice of "everything", which is
# the configuration as it stands.
ROWS = (
    Row("global", "global loss only", _NO_ATP | _NO_ARA | _NO_GATE, None),
    Row("atp", "+ ATP (match and groups), no gate", _NO_ARA | _NO_GATE, "global"),
    Row("gate", "+ gate", _NO_ARA | {"atp.gate": "token"}, "atp"),
    Row("ara_token", "+ ARA, token masking", {"ara.masking": "token"}, "gate"),
    Row("ara_phrase", "+ ARA, phrase masking", {"ara.masking": "phrase"}, "ara_token"),
    Row("everything", "everything", {}, "ara_phrase"),
    Row("hardest", "hardest negatives", {"atp.negatives": "hardest"}, "everything"),
    Row("sampled", "sampled negatives", {"atp.negatives": "sampled"}, "hardest"),
    Row("causal", "causal attribute decoder", {"ara.causal": True}, "everything"),
    Row("not_causal", "attribute decoder that sees later tokens", {"ara.causal": False}, "causal"),
    Row("released", "the switches of the released code", _RELEASED, "everything"),
    Row(
        "released_masked",
        "the same, negatives by masked logits",
        _RELEASED | {"atp.negatives": "hardest"},
        "released",
    ),
    # What the paper does not have: see cada_jax/objective/README.md.
    Row("tal", "TAL in place of NDF", {"loss.global": "tal"}, "everything"),
    Row("transport", "+ quota transport", {"loss.alignment": "quota_transport"}, "everything"),
    Row("phrases", "groups are phrases", {"atp.groups": "phrases"}, "everything"),
    Row("short", "3 of 10 captions cut to a few phrases", {"augment.shorten": 0.3}, "everything"),
    Row("mirror", "images scored mirrored too", {"eval.mirror": True}, "everything"),
)
BY_NAME = {row.name: row for row in ROWS}


def choose(text: str) -> tuple[Row, ...]:
    """The rows that "a,b" names, in the order of the table; all of them for an empty text.

    Raises:
      UsageError: there is no such row.
    """
    names = [name.strip() for name in text.split(",")] if text else list(BY_NAME)
    for name in names:
        if name not in BY_NAME:
            near = difflib.get_close_matches(name, BY_NAME, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"--rows: there is no row {name[:100]!r}.{hint} Expected some of "
                f"{','.join(BY_NAME)}"
            )
    return tuple(row for row in ROWS if row.name in names)


def config_of(base: ConfigDict, row: Row, seed: int) -> ConfigDict:
    """The configuration of one run, checked; `base` stays as it is.

    Args:
      base: full config that all rows share.
      row: what it changes.
      seed: of the run.

    Raises:
      UsageError: the row does not fit the configuration.
    """
    config = base.copy_and_resolve_references()
    apply_overrides(config, {**row.changes, "seed": seed})
    try:
        validate(config)
    except UsageError as e:
        raise UsageError(f"row {row.name}: {e}") from e
    return config.lock()


def compared_with(row: Row, chosen: tuple[Row, ...]) -> Row | None:
    """The row that `row` is compared with among the chosen ones.

    A row that was left out hands on to the one that it is compared with itself.
    """
    names = {other.name for other in chosen}
    against = row.against
    while against is not None and against not in names:
        against = BY_NAME[against].against
    return BY_NAME[against] if against is not None else None
