"""The first stage of the shipped model: true labels, and a folder that a run can start from."""

import numpy as np
import pytest

from cada_jax.checkpoints.model import load_model
from cada_jax.data.split import load_split
from configs import synthetic
from tools import attribute_training as tool
from tools import pretrain_attributes


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def split(data_dir):
    config = synthetic.get_config("tiny")
    config.data.data_dir = str(data_dir)
    return load_split(config, "train")


def test_the_labels_are_what_the_captions_say(split):
    _, stated = tool.true_attributes("tiny", split)
    assert len(stated) == split.num_captions
    for text, attributes in zip(split.texts, stated, strict=True):
        for value in ("backpack", "umbrella", "suitcase"):
            if value in text.split():
                assert value in attributes.values(), text


def test_labels_leave_out_what_cannot_be_told():
    classes = tool.class_table([{"bag": "backpack"}, {"bag": "handbag", "top": "shirt"}])
    labels = tool.to_labels([{"bag": "handbag"}, {"top": "shirt"}, {"bag": "unheard"}], classes)
    bag, top = tool.ATTRIBUTES.index("bag"), tool.ATTRIBUTES.index("top")
    assert labels[:, bag].tolist() == [1, tool.UNKNOWN, tool.UNKNOWN]
    assert labels[:, top].tolist() == [tool.UNKNOWN, 0, tool.UNKNOWN]


def test_unknown_labels_do_not_count():
    logits = [np.zeros((2, 3), np.float32)] * len(tool.ATTRIBUTES)
    labels = np.full((2, len(tool.ATTRIBUTES)), tool.UNKNOWN, np.int32)
    assert tool.classification_loss(logits, labels) == 0
    labels[0, 0] = 1
    np.testing.assert_allclose(
        tool.classification_loss(logits, labels), np.log(3) / labels.size, rtol=1e-6
    )


def test_training_lowers_the_loss_and_writes_a_model(data_dir, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("CADA_DATA_DIR", str(data_dir))
    flags = [str(tmp_path / "model"), "--variant", "tiny", "--steps", "4"]
    assert pretrain_attributes.main(flags) == 0
    assert "shoes_color" in capfd.readouterr().err
    params, config, *_ = load_model(tmp_path / "model")
    assert config.data.name == "synthetic"
    assert np.isfinite(params["image_encoder"]["cls_token"]).all()
