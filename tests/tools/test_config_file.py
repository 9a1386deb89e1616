"""Configurations by name and with changed fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common.errors import UsageError
from tools import config_file


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("train.epochs=3", 3),
        ("model.dtype=bfloat16", "bfloat16"),
        ("data.image_size=384,128", (384, 128)),
        ("init_from=None", None),
        ("data.data_dir=/a=b", "/a=b"),
    ],
)
def test_a_value_has_the_type_of_its_field(change, value):
    assert config_file.parse_changes([change]) == {change.partition("=")[0]: value}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("train.batch=3", "there is no such field; did you mean config.train.batch_size?"),
        ("train.batch_size=few", "config.train.batch_size is 'few'"),
        ("train=3", "config.train=3: there is no such field"),
        ("train.epochs", "--set train.epochs: expected FIELD=VALUE"),
        ("augment.flip=nan", "config.augment.flip is"),
    ],
)
def test_a_change_that_cannot_be_is_one_message(change, part):
    with pytest.raises(UsageError) as refused:
        config_file.read_config("rstp", [change])
    assert part in str(refused.value) and "\n" not in str(refused.value)


@given(st.text(max_size=30), st.text(max_size=12))
def test_any_text_is_a_change_or_is_refused(field, value):
    for change in (f"{field}={value}", f"data.image_size={value}", f"train.epochs={value}"):
        try:
            config_file.read_config("rstp", [change])
        except UsageError:
            continue


def test_changes_reach_the_configuration_and_its_references():
    config = config_file.read_config("rstp", ["data.image_size=(384,128)", "train.epochs=3"])
    assert config.model.image.size == (384, 128) and config.train.epochs == 3
