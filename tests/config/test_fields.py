"""The table of fields: what makes no sense is refused in one line that names the field."""

import copy
import math
import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax import config as config_lib
from cada_jax.common.errors import UsageError
from cada_jax.config import __main__ as listing
from cada_jax.config.fields import BY_NAME, FIELDS, Same
from cada_jax.config.kinds import spelled
from tests.config.values import changed, refusal

NAMES = [field.name for field in FIELDS]
OPTIONAL = {"init_from", "data.variant", "data.data_dir", "data.vocab"}
FLAGS = {"ara.causal", "eval.baseline", "eval.mirror", "eval.track_test", "eval.save_queries"}
MAY_BE_MINUS_ONE = {"train.profile_start", "mesh.data", "mesh.fsdp", "mesh.tensor"}
# Each value with the only fields that it makes sense for; stated here, not read from the table.
SENSELESS = [
    (math.nan, set()),
    (-math.inf, set()),
    (-7, set()),
    (-1, MAY_BE_MINUS_ONE),
    (10**5000, set()),  # cannot even be printed
    (1e300, set()),
    (True, FLAGS),
    (None, OPTIONAL),
    ("", {"train.datasets", "eval.datasets"}),
    ("None", set()),
    ("nonsense", OPTIONAL),
    ([16, 16], set()),
    ((16, 16, 16), set()),
    ((math.nan, 0.5), set()),
    ((0.9, 0.1), set()),
    ({"a": 1}, set()),
    (object(), set()),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_senseless_value_is_refused_in_one_line_that_names_the_field(name):
    for value, sensible_for in SENSELESS:
        accepted = refusal(changed(name, value)) is None
        if name in sensible_for:
            config_lib.check_fields(changed(name, value), name)
            continue
        assert not accepted, f"config.{name} = {value!r} is accepted"
        text = refusal(changed(name, value))
        if not isinstance(value, dict):
            assert text.startswith(f"config.{name} is ") and "; allowed: " in text, text


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner),
    max_leaves=4,
)


@given(name=st.sampled_from(NAMES), value=_ANYTHING)
def test_any_value_is_valid_or_refused_in_one_line(name, value):
    text = refusal(changed(name, value))
    assert text is None or f"config.{name}" in text


@given(name=st.sampled_from(NAMES), text=st.text() | st.floats().map(str) | st.integers().map(str))
def test_any_text_of_an_override_is_read_or_refused_in_one_line(name, text):
    try:
        _, read = config_lib.split_overrides([f"--config.{name}={text}"])
    except UsageError as error:
        assert "\n" not in str(error) and str(error).startswith(f"config.{name} is ")
    else:
        assert BY_NAME[name].kind.accepts(read[name])


def test_defaults_are_valid_and_a_call_gives_a_configuration_of_its_own():
    config = config_lib.default_config()
    assert refusal(config) is None and refusal(config.lock()) is None
    with config.unlocked():
        config.train.epochs = 7
    assert config_lib.default_config().train.epochs == 30


def test_the_size_of_the_model_follows_the_size_of_the_data():
    config = config_lib.default_config()
    config.data.image_size = (384, 128)
    assert config.model.image.size == (384, 128) and refusal(config) is None
    alone = config.copy_and_resolve_references()
    alone.data.image_size = (224, 224)
    assert "set that alone" in refusal(alone)


def test_a_configuration_file_may_write_a_text_for_none_and_a_word_for_a_number():
    config = config_lib.default_config()
    for value in ("pretrained:synthetic", None):
        config.init_from = value
        assert config.init_from == value and refusal(config) is None
    for value in ("phrases", 3):
        config.atp.groups = value
        assert config.atp.groups == value and refusal(config) is None
    assert "'phrases' (the phrases of the caption)" in refusal(changed("atp.groups", "halves"))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda c: c.train.update(epoch=3), "did you mean config.train.epochs?"),
        (lambda c: c.update(lr=3), "config.lr: there is no such field"),
        (lambda c: delattr(c.model.tokens, "dec"), "config.model.tokens.dec is missing"),
        (lambda c: setattr(c, "extra", copy.deepcopy(c)), "config.extra."),
    ],
)
def test_a_field_too_many_or_too_few_is_named(change, part):
    config = config_lib.default_config()
    change(config)
    assert part in (refusal(config) or "")


def test_every_default_is_read_back_from_its_spelling():
    for field in FIELDS:
        if not isinstance(field.default, Same):
            assert field.kind.parse(spelled(field.default)) == field.default, field.name


def test_every_field_is_read_by_the_package():
    package = pathlib.Path(config_lib.__file__).parents[1]
    files = [file for file in package.rglob("*.py") if "config" not in file.parts[-2:-1]]
    words = set(re.findall(r"\w+", " ".join(file.read_text() for file in files)))
    assert [name for name in NAMES if name.rpartition(".")[2] not in words] == []


def test_the_sets_are_those_with_a_builder():
    pytest.importorskip("tensorflow")
    from cada_jax.data.registry import FOLDERS

    assert set(config_lib.DATASETS) == {"synthetic", *FOLDERS}


def test_the_listing_has_a_row_for_every_field_or_for_those_of_a_part(capsys):
    assert listing.main([]) == 0
    head, rule, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| field | default | allowed |") and set(rule) == set("|-")
    for row, field in zip(rows, FIELDS, strict=True):
        assert row.startswith(f"| `{field.name}` |") and field.meaning in row
        assert field.kind.allowed in row and row.count(" | ") == 4
    assert listing.main(["mesh"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 3
    with pytest.raises(UsageError, match="the groups are .*optimizer"):
        listing.describe_fields("nonsense")
