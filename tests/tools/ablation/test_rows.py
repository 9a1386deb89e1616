"""Every row of the ablation is a configuration, compared with one above it."""

import pytest

from cada_jax.config import differing_keys, load_config, to_json
from configs.variants import VARIANTS
from tools.ablation import rows


@pytest.mark.parametrize("name", ["synthetic", "synthetic:tiny", "rstp", "cuhk", "icfg"])
def test_every_row_is_a_valid_configuration_and_leaves_the_base_alone(name):
    base = load_config(name)
    before = to_json(base)
    for row in rows.ROWS:
        config = rows.config_of(base, row, 7)
        assert config.seed == 7
        expected = {*row.changes, "seed"}
        assert set(differing_keys(config, base)) <= expected
    assert to_json(base) == before


def test_the_released_row_is_the_released_variant_but_for_three_fields():
    config = load_config("default")
    VARIANTS["released"](config)
    different = differing_keys(config, load_config("default"))
    changed = rows.BY_NAME["released"].changes
    left_out = {"data.tagger", "data.tag_unit", "eval.select_on"}
    assert {name: ours for name, (ours, _) in different.items()}.items() <= (
        changed.items() | {(n, different[n][0]) for n in left_out if n in different}
    )
    released = differing_keys(rows.config_of(load_config("default"), _row("released"), 0), config)
    assert set(released) <= left_out | {"seed"}


def _row(name):
    return rows.BY_NAME[name]


def test_a_row_is_compared_with_the_nearest_chosen_one_before_it():
    chosen = rows.choose("global,gate,released")
    assert [row.name for row in chosen] == ["global", "gate", "released"]
    against = {row.name: rows.compared_with(row, chosen) for row in chosen}
    assert against["global"] is None
    assert against["gate"].name == "global"
    assert against["released"].name == "gate"


def test_every_row_is_compared_with_one_above_it():
    seen = set()
    for row in rows.ROWS:
        assert row.against in seen or (row.against is None and not seen)
        seen.add(row.name)
