"""Persons found by a detector of transformers, kept as boxes that can be edited."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from cada_jax.common.errors import UsageError
from cada_jax.gallery import detect
from cada_jax.gallery.boxes import read_boxes
from cada_jax.gallery.commands import index as command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny random RT-DETR: half of what it finds are persons."""
    torch = pytest.importorskip("torch")
    from transformers import (
        RTDetrConfig,
        RTDetrForObjectDetection,
        RTDetrImageProcessor,
        RTDetrResNetConfig,
    )

    folder = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=[16, 24, 32],
        decoder_in_channels=[32, 32, 32],
        feat_strides=[8, 16, 32],
        encoder_hidden_dim=32,
        d_model=32,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        decoder_layers=1,
        num_queries=20,
        num_denoising=0,
        id2label={0: "person", 1: "bicycle"},
        label2id={"person": 0, "bicycle": 1},
    )
    RTDetrForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    monkeypatch.setattr(detect, "LEAST_SCORE", 0.0)  # of random weights
    generator = np.random.default_rng(0)
    for number, size in enumerate([(300, 450), (400, 200), (250, 250)]):
        pixels = generator.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return sorted(str(path) for path in tmp_path.glob("*.png"))


def boxes_of(file, paths):
    boxes = read_boxes(file)
    boxes.match(paths)
    return {path: boxes.of(path) for path in paths}


def test_what_the_model_finds_is_kept_and_read_back_as_boxes(model, scenes, tmp_path):
    import torch
    from transformers import RTDetrForObjectDetection, RTDetrImageProcessor

    boxes = tmp_path / "boxes.json"
    detect.detect_persons(model, scenes, boxes)
    read = boxes_of(boxes, scenes)
    processor = RTDetrImageProcessor.from_pretrained(model)
    network = RTDetrForObjectDetection.from_pretrained(model).eval()
    for path in scenes:
        picture = Image.open(path)
        with torch.inference_mode():
            out = network(**processor(images=[picture], return_tensors="pt"))
        sizes = [picture.size[::-1]]
        (found,) = processor.post_process_object_detection(out, 0.0, sizes)
        persons = found["scores"][found["labels"] == 0]
        kept = read[path]
        assert 0 < len(kept) <= len(persons)
        np.testing.assert_allclose(max(b.score for b in kept), max(persons), atol=1e-3)
        for x, y, width, height in (box.sides for box in kept):
            assert 0 <= x and x + width <= picture.width + 0.1
            assert 0 <= y and y + height <= picture.height + 0.1


def test_edited_boxes_stay_and_only_new_pictures_are_looked_at(model, scenes, tmp_path):
    boxes = tmp_path / "boxes.json"
    detect.detect_persons(model, scenes[:2], boxes)
    coco = json.loads(boxes.read_text())
    coco["annotations"] = [{"id": 1, "image_id": 1, "bbox": [1, 2, 30, 40], "category_id": 1}]
    boxes.write_text(json.dumps(coco))
    edited = boxes.read_bytes()
    detect.detect_persons("/no/such/model", scenes[:2], boxes)
    assert boxes.read_bytes() == edited, "no picture is new: the model is not even loaded"
    seen = []
    detect.detect_persons(model, scenes, boxes, lambda new, *_: seen.extend(new) or seen)
    assert [path for path, _ in seen] == scenes[2:]
    (box,) = boxes_of(boxes, scenes)[scenes[0]]
    assert box.sides == (1, 2, 30, 40)
    os.utime(scenes[0], (1, 1))
    detect.detect_persons(model, scenes, boxes)
    assert len(boxes_of(boxes, scenes)[scenes[0]]) > 1, "a changed picture is looked at again"


def test_what_is_no_picture_or_no_detector_is_one_line(model, scenes, tmp_path):
    (tmp_path / "0.png").write_text("no picture")
    detect.detect_persons(model, scenes, tmp_path / "boxes.json")
    images = json.loads((tmp_path / "boxes.json").read_text())["images"]
    assert [image["file_name"] for image in images] == scenes[1:]
    for name, named in (("hf:", "expected hf:ORG/NAME"), (str(tmp_path), "a detector of")):
        with pytest.raises(UsageError, match=named) as caught:
            detect.Detector(name)
        assert len(str(caught.value).splitlines()) == 1
    (tmp_path / "boxes.json").write_text("[]")
    with pytest.raises(UsageError, match="boxes that a detector found"):
        detect.detect_persons(model, scenes, tmp_path / "boxes.json")


def test_index_finds_persons_and_keeps_them_beside_the_gallery(model, scenes, tmp_path, capsys):
    db = tmp_path / "people.db"
    flags = ["--model=pretrained:synthetic", f"--images={tmp_path}", f"--db={db}"]
    assert command.main([*flags, f"--detect={model}"]) == 0
    boxes = boxes_of(f"{db}.boxes.json", scenes)
    sides = [box.sides[2:] for found in boxes.values() for box in found]
    assert len(sides) > 3 and min(map(min, sides)) >= 8, "smaller ones show nobody"
    assert f"{len(sides)} pictures in {db}" in capsys.readouterr().out
