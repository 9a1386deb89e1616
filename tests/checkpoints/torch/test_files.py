"""Files of every form hold the same tensors; everything else is refused in one sentence."""

import json
import re
import sys

import numpy as np
import pytest

from cada_jax.checkpoints.torch import files
from cada_jax.common.errors import MissingFileError, UsageError
from tests.checkpoints.torch.support import as_tensors, assert_equal, save


def test_files_of_every_form_hold_the_same_tensors(torch, weights, tmp_path):
    import argparse

    from safetensors.numpy import save_file

    beside = {"optimizer": {"state": {}}, "args": argparse.Namespace(lr=1e-5), "config": {"k": 32}}
    whole = save(torch, tmp_path / "whole.pth", weights, **beside)
    ddp = save(torch, tmp_path / "ddp.pth", {f"module.{n}": x for n, x in weights.items()})
    bare = tmp_path / "bare.pth"
    torch.save({n: torch.from_numpy(x) for n, x in weights.items()}, bare)
    flat = tmp_path / "flat.safetensors"
    save_file(weights, flat)
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    index = {name: f"part{i % 2}.safetensors" for i, name in enumerate(weights)}
    for part in set(index.values()):
        save_file({n: x for n, x in weights.items() if index[n] == part}, sharded / part)
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    for path in (whole, ddp, bare, flat, sharded):
        assert files.is_torch_checkpoint(path)
        assert_equal(files.read_checkpoint(path).tensors, weights)
    assert files.read_checkpoint(whole).config == {"k": 32}


def test_half_precision_becomes_float32(torch, tmp_path):
    values = torch.randn(4, 3)
    torch.save({"a": values.half(), "b": values.bfloat16()}, tmp_path / "half.pth")
    tensors = files.read_checkpoint(tmp_path / "half.pth").tensors
    np.testing.assert_array_equal(tensors["a"], values.half().float().numpy())
    np.testing.assert_array_equal(tensors["b"], values.bfloat16().float().numpy())


class Code:
    """What a hostile pickle would run when it is loaded carelessly."""

    def __reduce__(self):
        return (sys.exit, (3,))


def bad_files(torch, tmp_path, weights):
    """(path, part of the message) of everything that is no usable checkpoint."""
    whole = save(torch, tmp_path / "whole.pth", weights).read_bytes()
    files = {
        "truncated.pth": (whole[: len(whole) // 2], "truncated"),
        "text.pth": (b"not a checkpoint\n" * 20, "no PyTorch checkpoint"),
        "empty.pth": (b"", "no PyTorch checkpoint"),
        "cut.safetensors": (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "truncated or no safetensors"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        yield tmp_path / name, message
    torch.save({"model": {"a": torch.ones(2)}, "args": Code()}, tmp_path / "code.pth")
    yield tmp_path / "code.pth", "was not loaded: .*exit"
    torch.save([1, 2], tmp_path / "list.pth")
    yield tmp_path / "list.pth", "holds a list"
    yield tmp_path / "absent.pth", "does not exist"
    (tmp_path / "folder").mkdir()
    yield tmp_path / "folder", "holds none of"
    nan = weights | {"itm_head.bias": np.full(2, np.nan, np.float32)}
    yield save(torch, tmp_path / "nan.pth", nan), "not finite: itm_head.bias"
    clip = {"visual.conv1.weight": np.zeros(3, np.float32)}
    yield save(torch, tmp_path / "clip.pth", clip), "looks like CLIP"


def test_bad_input_is_one_error_and_nothing_is_written(
    torch, convert, weights, tmp_path, config_file, vocab, capsys
):
    target = tmp_path / "out" / "model"
    for path, message in bad_files(torch, tmp_path, weights):
        flags = [str(path), str(target), f"--config={config_file}", f"--vocab={vocab}"]
        assert convert(flags) == 2, path
        error = capsys.readouterr().err
        assert error.count("error:") == 1 and "Traceback" not in error
        assert re.search(message, error), (path, error)
        assert not target.parent.exists()


NAMES = ("a.pth", "a.th", "a.pth.tar", "a.PTH", "a.safetensors", "a")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["zip", "before 1.6", "safetensors"])
def test_the_first_bytes_decide_what_a_file_is(torch, tmp_path, name, form):
    from safetensors.numpy import save_file

    arrays = {"itm_head.bias": np.arange(2, dtype=np.float32)}
    path = tmp_path / name
    if form == "safetensors":
        save_file(arrays, path)
    else:
        tensors = as_tensors(torch, arrays)
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip")
    assert files.is_torch_checkpoint(path)
    assert_equal(files.read_checkpoint(path).tensors, arrays)


OTHER_FILES = {
    b"\x1f\x8b\x08\x00rest": "gzip.*Unpack",
    b"BZh91AY": "bzip2.*Unpack",
    b"\xfd7zXZ\x00": "xz.*Unpack",
    b"x" * 257 + b"ustar\x0000" + b"x" * 300: "tar archive.*Unpack",
    b'  {"weight_map": {}}': "JSON",
    b"\xef\xbb\xbf[1, 2]": "JSON",
    b"<!DOCTYPE html><html>": "web page.*download",
    b"version https://git-lfs.github.com/spec/v1\noid": "git lfs pull",
    b"\x93NUMPY\x01\x00": "NumPy array",
    b"\x89HDF\r\n": "HDF5",
    b"GGUF\x03": "GGUF",
    b"plain words\n": "text file",
    b"\xff\xfe\x00\x01\x02": "unknown kind.*ff fe 00 01",
    b"": "empty file",
    b"PK\x03\x04rest": "truncated or damaged",
    b"\x80\x02": "truncated or damaged",
    b"\x08\x00\x00\x00\x00\x00\x00\x00{": "truncated or no safetensors",
}


@pytest.mark.parametrize("content", OTHER_FILES, ids=lambda content: str(content[:9]))
def test_another_file_is_named_for_what_it_is(torch, tmp_path, content):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=OTHER_FILES[content]) as error:
        files.read_checkpoint(path)
    assert str(path) in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_archives_that_torch_save_did_not_write_are_named(torch, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "program.pt")
    for name, message in (("a.npz", "NumPy's .npz"), ("program.pt", "TorchScript.*state_dict")):
        with pytest.raises(UsageError, match=f"(?s){message}"):
            files.read_checkpoint(tmp_path / name)


def test_a_tilde_and_a_relative_path_are_followed(torch, tmp_path, monkeypatch):
    save(torch, tmp_path / "a.pth", {"itm_head.bias": np.ones(2, np.float32)})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in ("~/a.pth", "a.pth", "./a.pth"):
        assert files.is_torch_checkpoint(path)
        assert list(files.read_checkpoint(path).tensors) == ["itm_head.bias"]
    for path in ("~nobody-of-that-name/a.pth", "x" * 300, "a\0b"):
        with pytest.raises(MissingFileError, match="does not exist"):
            files.read_checkpoint(path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_safetensors_of_any_precision_are_read_as_float32(torch, tmp_path, dtype):
    from safetensors.torch import save_file

    values = torch.randn(4, 3).to(getattr(torch, dtype))
    save_file({"a": values, "empty": values[:0].contiguous()}, tmp_path / "a")
    tensors = files.read_checkpoint(tmp_path / "a").tensors
    assert tensors["a"].dtype == np.float32 and tensors["empty"].shape == (0, 3)
    np.testing.assert_array_equal(tensors["a"], values.float().numpy())


def plain_less(torch):
    """Tensors that have no plain values, by what the message says of them."""
    meta, quantized = torch.ones(3, device="meta"), torch.ones(3).to(torch.float8_e4m3fn)
    steps = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)
    return {"sparse": torch.eye(3).to_sparse(), "meta": meta, "float8": quantized, "quint8": steps}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("kind", ["sparse", "meta", "float8", "quint8"])
def test_tensors_without_plain_values_are_one_error(torch, tmp_path, kind):
    state = {"itm_head.weight": torch.ones(2, 2), "itm_head.bias": plain_less(torch)[kind]}
    torch.save({"model": state}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match=f"model.itm_head.bias .*{kind}"):
        files.read_checkpoint(tmp_path / "a.pth")


def test_float8_in_safetensors_is_one_error(torch, tmp_path):
    from safetensors.torch import save_file

    save_file({"itm_head.bias": torch.ones(3).to(torch.float8_e4m3fn)}, tmp_path / "a")
    with pytest.raises(UsageError, match="itm_head.bias .F8_E4M3"):
        files.read_checkpoint(tmp_path / "a")


def test_a_changed_byte_in_a_zip_file_is_noticed(torch, tmp_path):
    path = save(torch, tmp_path / "a.pth", {"itm_head.bias": np.zeros(2000, np.float32)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match="damaged in .*data/0"):
        files.read_checkpoint(path)


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
