"""Configurations by name and with changed fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cada_jax.common.errors import MissingFileError, UsageError
from tools import config_file


@pytest.fixture(scope="module")
def config():
    return config_file.load_config("rstp")


@pytest.mark.parametrize("argument", ["rstp", "configs/rstp.py", "rstp:released"])
def test_a_config_is_found_by_name_path_and_variant(argument, monkeypatch):
    monkeypatch.chdir(config_file.REPOSITORY)
    found = config_file.load_config(argument)
    assert found.data.name == "rstp"
    assert (found.atp.group_pool == "all") == argument.endswith(":released")


def test_a_missing_file_names_the_nearest():
    with pytest.raises(MissingFileError, match="Did you mean rstp?"):
        config_file.load_config("rstq")


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("train.epochs=3", 3),
        ("eval.track_test=True", True),
        ("model.dtype=bfloat16", "bfloat16"),
        ("optimizer.learning_rate=3e-4", 3e-4),
        ("data.image_size=384,128", (384, 128)),
        ("data.image_size=(384, 128)", (384, 128)),
        ("augment.erase_area=(0.1,0.2)", (0.1, 0.2)),
        ("init_from=pretrained:synthetic", "pretrained:synthetic"),
        ("init_from=None", None),
        ("data.data_dir=/a=b", "/a=b"),
    ],
)
def test_a_value_has_the_type_of_its_field(config, change, value):
    assert config_file.parse_changes(config, [change]) == {change.partition("=")[0]: value}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("train.batch=3", "--set train.batch=3: no such field; did you mean train.batch_size?"),
        ("batch_size=3", "did you mean"),
        ("train.batch_size=few", "not a value of its type, expected int as 120"),
        ("eval.track_test=1", "expected true or false"),
        ("data.image_size=384", "expected tuple as "),
        ("train=3", "train is a section; its fields: accumulation"),
        ("train.epochs", "expected FIELD=VALUE"),
        ("augment.flip=nan", "not a value of its type"),
    ],
)
def test_a_change_that_cannot_be_is_one_message(config, change, part):
    with pytest.raises(UsageError) as refused:
        config_file.parse_changes(config, [change])
    assert part in str(refused.value) and "\n" not in str(refused.value)


@given(st.text(max_size=30), st.text(max_size=12))
def test_any_text_is_a_change_or_is_refused(field, value):
    config = config_file.load_config("rstp")
    for change in (f"{field}={value}", f"data.image_size={value}", f"train.epochs={value}"):
        try:
            changes = config_file.parse_changes(config, [change])
        except UsageError:
            continue
        config.update_from_flattened_dict(changes)


def test_changes_reach_the_configuration_and_its_references():
    config = config_file.read_config("rstp", ["data.image_size=(384,128)", "train.epochs=3"])
    assert config.model.image.size == (384, 128) and config.train.epochs == 3
