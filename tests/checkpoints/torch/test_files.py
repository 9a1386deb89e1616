"""Files of every form, wrapped in any way, hold the same tensors; the others are refused."""

import argparse
import json
import sys

import numpy as np
import pytest

from cada_jax.checkpoints.torch import files
from cada_jax.common.errors import MissingFileError, UsageError
from tests.checkpoints.torch.support import as_tensors, assert_equal, save

ARRAYS = {
    "visual_encoder.norm.weight": np.arange(3, dtype=np.float32),
    "text_encoder.encoder.layer.0.output.dense.bias": np.ones(2, np.float32),
    "itm_head.bias": np.full(2, 7, np.float32),
}


def test_files_of_every_form_hold_the_same_tensors(torch, weights, tmp_path):
    from safetensors.numpy import save_file

    flags = argparse.Namespace(lr=1e-5, best=np.float64(1), out="out")
    beside = {"optimizer": {"state": {}}, "args": flags, "config": {"k": 32}}
    whole = save(torch, tmp_path / "whole.pth", weights, **beside)
    old = tmp_path / "before_1_6.th"
    torch.save(as_tensors(torch, weights), old, _use_new_zipfile_serialization=False)
    flat = tmp_path / "flat.safetensors"
    save_file(weights, flat)
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    index = {name: f"part{i % 2}.safetensors" for i, name in enumerate(weights)}
    for part in set(index.values()):
        save_file({n: x for n, x in weights.items() if index[n] == part}, sharded / part)
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (sharded / "config.json").write_text('{"model_type": "blip"}')
    for path in (whole, old, flat, sharded):
        assert files.is_torch_checkpoint(path)
        assert_equal(files.read_checkpoint(path).tensors, weights)
    assert files.read_checkpoint(whole).config == {"k": 32}
    assert files.read_checkpoint(sharded).config == {"model_type": "blip"}


WRAPPED = {
    "prefixes": lambda state: {f"module._orig_mod.model.{n}": x for n, x in state.items()},
    "inside a name": lambda state: {
        n.replace("encoder.", "encoder._orig_mod.", 1): x for n, x in state.items()
    },
    "keys": lambda state: {
        "state_dict": {"ema": state},
        "epoch": 3,
        "optimizer": {"state": {0: {"exp_avg": state["itm_head.bias"] + 1}}},
    },
    "a state for each part": lambda state: {
        n.partition(".")[0]: {n.partition(".")[2]: x} for n, x in state.items()
    },
    "the same twice": lambda state: {"model": state, "ema": {n: +x for n, x in state.items()}},
}


@pytest.mark.parametrize("case", WRAPPED)
def test_what_wraps_the_weights_changes_nothing(torch, tmp_path, case):
    torch.save(WRAPPED[case](as_tensors(torch, ARRAYS)), tmp_path / "a.pth")
    assert_equal(files.read_checkpoint(tmp_path / "a.pth").tensors, ARRAYS)


def test_a_weight_that_stands_twice_and_differs_is_refused(torch, tmp_path):
    state, other = as_tensors(torch, ARRAYS), as_tensors(torch, ARRAYS)
    other["itm_head.bias"] += 1
    torch.save({"model": state, "ema": other}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match="model.itm_head.bias and ema.itm_head.bias"):
        files.read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_any_precision_becomes_float32(torch, tmp_path, dtype):
    from safetensors.torch import save_file

    values = {"itm_head.bias": torch.randn(4).to(getattr(torch, dtype))}
    save_file(values, tmp_path / "a.safetensors")
    torch.save(values, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        [tensor] = files.read_checkpoint(tmp_path / name).tensors.values()
        array = files.to_numpy("it", tensor)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, values["itm_head.bias"].float().numpy())


class Code:
    """What a hostile pickle would run when it is loaded carelessly."""

    def __reduce__(self):
        return (sys.exit, (3,))


def bad_files(torch, tmp_path):
    """(path, part of the message) of everything that is no usable checkpoint."""
    whole = save(torch, tmp_path / "whole.pth", {"itm_head.bias": np.zeros(2000)}).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    contents = {
        "truncated.pth": (whole[: len(whole) // 2], "it cannot be read"),
        "flipped.pth": (bytes(flipped), "damaged in .*data/0"),
        "text.pth": (b"not a checkpoint\n" * 20, "it holds more than|it cannot be read"),
        "empty.pth": (b"", "it cannot be read"),
        "cut.safetensors": (b"\x10" + b"\0" * 7 + b"{}", "it cannot be read"),
    }
    for name, (content, message) in contents.items():
        (tmp_path / name).write_bytes(content)
        yield tmp_path / name, message
    torch.save({"model": {"a": torch.ones(2)}, "args": Code()}, tmp_path / "code.pth")
    yield tmp_path / "code.pth", "it holds more than tensors"
    torch.save([1, 2], tmp_path / "list.pth")
    yield tmp_path / "list.pth", "got a list"
    torch.save({"visual.conv1.weight": torch.ones(2)}, tmp_path / "clip.pth")
    yield tmp_path / "clip.pth", "its names begin with visual.conv1.weight"
    (tmp_path / "folder").mkdir()
    yield tmp_path / "folder", "lacks config.json"
    (tmp_path / "folder" / "pytorch_model.bin.index.json").write_text("[")
    yield tmp_path / "folder", "an index of shards"
    yield tmp_path / "absent.pth", "no such"


def test_bad_files_are_one_line_and_nothing_is_written(torch, convert, tmp_path, capsys):
    import re

    for path, message in bad_files(torch, tmp_path):
        assert convert([str(path), str(tmp_path / "out" / "model")]) == 2, path
        error = capsys.readouterr().err
        assert error.startswith("error: ") and len(error.splitlines()) == 1, error
        assert re.search(message, error) and str(path) in error, error
        assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_tensors_without_plain_values_are_refused(torch, tmp_path):
    made = {
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.ones(3, device="meta"),
        "float8": torch.ones(3).to(torch.float8_e4m3fn),
        "quint8": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    }
    for kind, tensor in made.items():
        with pytest.raises(UsageError, match=f"itm_head.bias has no plain values .*{kind}"):
            files.to_numpy("itm_head.bias", tensor)


def test_a_view_that_asks_for_gigabytes_is_refused(torch, tmp_path):
    small = torch.ones(1, 1).expand(250_000, 100_000)
    torch.save({"itm_head.weight": small}, tmp_path / "a.pth")
    assert (tmp_path / "a.pth").stat().st_size < 10_000
    [tensor] = files.read_checkpoint(tmp_path / "a.pth").tensors.values()
    with pytest.raises(UsageError, match="itm_head.weight is a view that repeats its values"):
        files.to_numpy("itm_head.weight", tensor)


def test_a_zip_file_written_without_checksums_is_read(torch, tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        path = save(torch, tmp_path / "a.pth", {"itm_head.bias": np.ones(2, np.float32)})
    finally:
        torch.serialization.set_crc32_options(True)
    assert files.read_checkpoint(path).tensors["itm_head.bias"].sum() == 2


def test_a_missing_torch_is_said(monkeypatch, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"\x80\x02.")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingFileError, match="cada_jax\\[torch\\]"):
        files.read_checkpoint(tmp_path / "a.pth")
