"""Every field of the table against values that make no sense, and the table against its kinds."""

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.common.errors import UsageError
from cada_jax.config.fields import BY_NAME, FIELDS
from cada_jax.config.fields.field import Same
from cada_jax.config.kinds import Choice, Integer, Number, Pair

NAMES = [field.name for field in FIELDS]
OPTIONAL = {"init_from", "data.variant", "data.data_dir", "data.vocab"}
FLAGS = {"ara.causal", "eval.mirror", "eval.track_test", "eval.save_queries"}
LISTS = {"train.datasets", "eval.datasets"}
PAIRS = {
    "data.image_size", "model.image.size", "model.image.patch",
    "augment.erase_area", "augment.erase_ratio",
}  # fmt: skip
MAY_BE_ZERO = {
    "seed", "augment.flip", "augment.pad", "augment.erase", "model.image.drop_path",
    "model.text.dropout", "model.tokens.pad", "model.tokens.cls", "model.tokens.sep",
    "model.tokens.mask", "model.tokens.dec", "model.tokens.enc", "loss.global_weight",
    "loss.atp_weight", "loss.ara_weight", "loss.tal_margin", "loss.group_weight",
    "optimizer.min_learning_rate", "optimizer.warmup_steps",
    "optimizer.b1", "optimizer.b2", "optimizer.weight_decay", "optimizer.clip_norm",
    "train.max_steps", "train.eval_every", "train.checkpoint_every", "eval.rerank_top_k",
    "eval.image_to_text_top_k",
}  # fmt: skip
MAY_BE_MINUS_ONE = {"train.profile_start", "mesh.data", "mesh.fsdp", "mesh.tensor"}
# Each value with the only fields that it makes sense for; stated here, not read from the table.
SENSELESS = [
    (math.nan, set()),
    (math.inf, set()),
    (-math.inf, set()),
    (-7, set()),
    (-0.5, set()),
    (-1, MAY_BE_MINUS_ONE),
    (0, MAY_BE_ZERO),
    (10**30, set()),
    (10**5000, set()),  # cannot even be printed
    (1e300, set()),
    (True, FLAGS),
    (False, FLAGS),
    (None, OPTIONAL),
    ("", LISTS),
    ("None", set()),
    ("nonsense", OPTIONAL),
    ("non\nsense", set()),
    ("\0", set()),
    ("~nouser/x", set()),
    ("a" * 300, set()),
    ("5", OPTIONAL),
    (b"val", set()),
    ([], set()),
    ([16, 16], set()),
    ((), set()),
    ((16,), set()),
    ((16, 16, 16), set()),
    ((math.nan, 0.5), set()),
    ((0, 0), set()),
    ((-16, 16), set()),
    (("a", "b"), set()),
    ((True, True), set()),
    ((16, 16), PAIRS - {"augment.erase_area"}),
    ((0.9, 0.1), set()),
    ({}, set()),
    ({"a": 1}, set()),
    (object(), set()),
]


def changed(name, value):
    """The default configuration with one value as it is: assigned, ml_collections converts some."""
    values = config_lib.default_config().to_dict()
    *groups, key = name.split(".")
    group = values
    for part in groups:
        group = group[part]
    group[key] = value
    return ConfigDict(values)


def refusal(config, **options):
    """The message that the configuration is refused with, None if it is not; always one line."""
    try:
        config_lib.validate(config, **options)
    except UsageError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 700, text
        return text
    return None


@pytest.mark.parametrize("name", NAMES)
def test_a_senseless_value_is_refused_in_one_line_that_names_the_field(name):
    for value, sensible_for in SENSELESS:
        config = changed(name, value)
        if name in sensible_for:
            config_lib.check_fields(config, name)
            continue
        text = refusal(config)
        assert text, f"config.{name} = {value!r} is accepted"
        assert text.startswith(f"config.{name} is ") and "; allowed: " in text, text


@pytest.mark.parametrize("name", [f.name for f in FIELDS if isinstance(f.kind, Choice)])
def test_a_misspelt_word_is_refused_with_the_right_one(name):
    for word in BY_NAME[name].kind.words:
        for misspelt in (word.upper() + "x", word[:-1], f"{word}s", f" {word}"):
            if misspelt in BY_NAME[name].kind.words:
                continue
            text = refusal(changed(name, misspelt))
            assert text and text.startswith(f"config.{name} is {misspelt!r}; allowed: ")
        assert f"--config.{name}=" in text


@pytest.mark.parametrize("name", [f.name for f in FIELDS if isinstance(f.kind, Integer | Number)])
def test_the_ends_of_a_range_are_what_the_message_says(name):
    kind = BY_NAME[name].kind
    step = 1 if isinstance(kind, Integer) else 1e-9 * max(1.0, kind.high)
    inside = [kind.low + step, kind.high - step]
    assert all(map(kind.accepts, inside))
    assert not kind.accepts(kind.high + step)
    assert not kind.accepts(kind.low - step) or isinstance(kind, Integer) and kind.also
    assert kind.accepts(kind.low) != getattr(kind, "above", False)
    assert kind.accepts(kind.high) != getattr(kind, "below", False)
    assert f"{kind.high:g}" in kind.allowed or str(kind.high) in kind.allowed


def test_research_values_are_allowed():
    for name, value in {
        "optimizer.learning_rate": 1.0,
        "loss.ara_weight": 1e6,
        "train.epochs": 10**6,
        "train.batch_size": 65536,
        "model.image.width": 1408,
        "model.image.depth": 48,
        "model.text.vocab_size": 119547,
        "eval.rerank_top_k": 20000,
        "train.log_every": 10**6,
    }.items():
        config_lib.check_fields(changed(name, value), name)


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


def test_placeholders_take_a_text_and_give_it_back():
    config = config_lib.default_config()
    config.init_from = "pretrained:synthetic"
    assert refusal(config) is None
    config.init_from = None
    assert config.init_from is None and refusal(config) is None


def test_a_configuration_file_may_write_a_number_or_a_word():
    config = config_lib.default_config()
    for value in ("phrases", 3):
        config.atp.groups = value
        assert config.atp.groups == value and refusal(config) is None
    for value in ("halves", "3", True, 2.0, None):
        assert "'phrases' (the attribute phrases" in refusal(changed("atp.groups", value))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda c: c.train.update(epoch=3), "config.train.epoch: there is no such field"),
        (lambda c: c.update(lr=3), "config.lr: there is no such field"),
        (lambda c: delattr(c.model.tokens, "dec"), "config.model.tokens.dec is missing"),
        (lambda c: delattr(c, "mesh"), "config.mesh.data is missing"),
        (lambda c: setattr(c, "extra", copy.deepcopy(c)), "config.extra."),
    ],
)
def test_a_field_too_many_or_too_few_is_named(change, part):
    config = config_lib.default_config()
    change(config)
    assert part in (refusal(config) or "")


def test_a_misspelt_field_is_refused_with_the_right_one():
    config = config_lib.default_config()
    config.train.epoch = 3
    assert "did you mean config.train.epochs?" in refusal(config)


@pytest.mark.parametrize("config", [None, {}, [], 3, "configs/default.py"])
def test_what_is_no_configuration_is_refused(config):
    assert "expected an ml_collections.ConfigDict" in refusal(config)


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@given(name=st.sampled_from(NAMES), value=_ANYTHING)
def test_any_value_is_valid_or_refused_in_one_line(name, value):
    try:
        config = changed(name, value)
    except (ValueError, TypeError):
        return  # a dict with keys that ml_collections does not take
    text = refusal(config)
    assert text is None or f"config.{name}" in text


@given(name=st.sampled_from(NAMES), text=st.text() | st.floats().map(str) | st.integers().map(str))
def test_any_text_of_an_override_is_read_or_refused_in_one_line(name, text):
    try:
        _, read = config_lib.split_overrides([f"--config.{name}={text}"])
    except UsageError as error:
        assert "\n" not in str(error) and str(error).startswith(f"config.{name} is ")
    else:
        assert BY_NAME[name].kind.accepts(read[name])


def test_every_default_is_read_back_from_its_spelling():
    from cada_jax.config.kinds import spelled

    for field in FIELDS:
        if not isinstance(field.default, Same):
            assert field.kind.parse(spelled(field.default)) == field.default, field.name


def test_the_sets_are_those_with_a_builder():
    pytest.importorskip("tensorflow")
    from cada_jax.data.registry import PUBLISHED

    assert set(BY_NAME["data.name"].kind.words) == {"synthetic", *PUBLISHED}


def test_pairs_are_the_fields_of_two_values():
    assert {field.name for field in FIELDS if isinstance(field.kind, Pair)} == PAIRS


def test_the_listing_has_one_row_for_every_field_with_its_default_and_meaning():
    head, rule, *rows = config_lib.describe_fields().splitlines()
    assert head.startswith("| field | default | allowed |") and set(rule) == set("|-")
    assert len(rows) == len(FIELDS)
    for row, field in zip(rows, FIELDS, strict=True):
        assert row.startswith(f"| `{field.name}` |") and field.meaning in row
        assert field.kind.allowed in row and row.count(" | ") == 4
