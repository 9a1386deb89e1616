"""Parameters to PyTorch and back: names, layouts, files, and everything that must be refused."""

import functools
import json
import pathlib
import re
import sys

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import FrozenConfigDict

from cada_jax.checkpoints import export
from cada_jax.checkpoints.torch import convert as convert_lib
from cada_jax.checkpoints.torch import files as files_lib
from cada_jax.checkpoints.weights import load_initial
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.models.cada import from_config, init_params
from cada_jax.models.position_embedding import find_grid, resize_positions

TOOLS = pathlib.Path(__file__).resolve().parents[3] / "tools"
GRID = (2, 2)


@pytest.fixture
def convert(monkeypatch):
    """The main function of tools/convert_checkpoint.py."""
    monkeypatch.syspath_prepend(str(TOOLS))
    import convert_checkpoint

    return convert_checkpoint.main


@pytest.fixture
def weights(golden):
    with np.load(golden / "weights_tiny.npz") as file:
        return dict(file)


@pytest.fixture
def config(load_config, weights):
    """The config of the golden weights, gate off."""
    config = load_config("default")
    convert_lib.infer_sizes(weights, config)
    config.data.image_size = (32, 32)
    config.model.image.heads = config.model.text.heads = 4
    config.model.text.vocab_size, config.model.text.max_positions = 200, 128
    config.model.tokens.dec, config.model.tokens.enc = 198, 199
    config.atp.gate = "off"
    return config


def shapes_of(config):
    """Our leaf paths and their shapes; tracing a model takes seconds, so each is traced once."""
    return _shapes(config.to_json(), FrozenConfigDict(config))


@functools.cache
def _shapes(_, config):
    model = from_config(config)
    tree = jax.eval_shape(lambda key: init_params(model, config, key), jax.random.key(0))
    return {path: leaf.shape for path, leaf in flatten_dict(tree, sep="/").items()}


def random_leaves(config, seed=0):
    rng = np.random.default_rng(seed)
    return {p: rng.standard_normal(s).astype(np.float32) for p, s in shapes_of(config).items()}


def assert_equal(got, wanted):
    assert set(got) == set(wanted)
    for name in wanted:
        assert got[name].dtype == wanted[name].dtype, name
        np.testing.assert_array_equal(got[name], wanted[name], err_msg=name)


def test_released_weights_and_back_are_identical(weights, config):
    leaves, report = convert_lib.from_torch(weights, shapes_of(config), GRID)
    assert set(leaves) == set(shapes_of(config))
    assert_equal(convert_lib.to_torch(leaves), weights)
    assert {row.status for row in report} == {"loaded", "left out"}


def test_full_size_names_and_shapes_are_those_of_the_released_model(load_config, golden):
    config = load_config("rstp", "released")
    shapes = shapes_of(config)
    assert sum(np.prod(shape) for shape in shapes.values()) == 361_335_104
    released = json.loads((golden / "full_state_dict_shapes.json").read_text())
    ours = convert_lib.torch_shapes(shapes)
    ours |= {copy: ours[original] for copy, original in convert_lib.TIED.items()}
    positions = (1, config.model.text.max_positions)
    ours |= dict.fromkeys(convert_lib.POSITION_IDS, positions)
    assert {name: list(shape) for name, shape in ours.items()} == released


@pytest.mark.parametrize("dialect", ["cada", "hf"])
def test_other_widths_survive_the_round_trip(tiny_config, dialect):
    tiny_config.model.image.width, tiny_config.model.image.mlp_dim = 48, 80
    tiny_config.model.image.depth = 3
    tiny_config.atp.gate = "off"
    leaves = random_leaves(tiny_config)
    tensors = convert_lib.to_torch(leaves, dialect=dialect)
    grid = (4, 2)
    back, _ = convert_lib.from_torch(tensors, shapes_of(tiny_config), grid, grid)
    assert_equal(back, leaves)
    sizes = tiny_config.copy_and_resolve_references()
    sizes.model.image.width = sizes.model.image.depth = sizes.model.text.mlp_dim = 7
    convert_lib.infer_sizes(tensors, sizes)
    for side in ("image", "text"):
        for field in ("width", "depth", "mlp_dim"):
            assert sizes.model[side][field] == tiny_config.model[side][field]


def test_what_only_pretraining_needs_is_left_out_by_name(weights, config):
    extra = {
        "temp": np.zeros((), np.float32),
        "image_queue": np.zeros((256, 16), np.float32),
        "ptr_queue": np.zeros(1, np.int64),
        "visual_encoder_m.norm.weight": np.full(64, np.nan, np.float32),
        "text_proj_m.bias": np.zeros(256, np.float32),
    }
    leaves, report = convert_lib.from_torch(weights | extra, shapes_of(config), GRID)
    plain, _ = convert_lib.from_torch(weights, shapes_of(config), GRID)
    assert_equal(leaves, plain)
    assert set(extra) <= {row.theirs for row in report if row.status == "left out"}


def test_a_part_the_checkpoint_lacks_is_new_and_an_incomplete_one_is_refused(weights, config):
    without = {n: x for n, x in weights.items() if not n.startswith("itm_local_head")}
    leaves, report = convert_lib.from_torch(without, shapes_of(config), GRID)
    new = {row.ours for row in report if row.status == "new"}
    assert new == {"itm_local_head/kernel", "itm_local_head/bias"}
    assert not new & set(leaves)
    del without["text_proj.bias"], without["text_encoder.encoder.layer.1.output.dense.bias"]
    with pytest.raises(UsageError) as error:
        convert_lib.from_torch(without, shapes_of(config), GRID)
    assert "text_proj.bias" in str(error.value)
    assert "text_encoder.encoder.layer.1.output.dense.bias" in str(error.value)


def test_every_misfit_is_listed_at_once(weights, config):
    weights["vision_proj.weight"] = np.zeros((9, 64), np.float32)
    weights["visual_encoder.norm.bias"] = np.full(64, np.nan, np.float32)
    weights["visual_encoder.blocks.2.norm1.bias"] = np.zeros(64, np.float32)
    weights["text_decoder.cls.predictions.decoder.bias"] = np.ones(200, np.float32)
    with pytest.raises(UsageError) as error:
        convert_lib.from_torch(weights, shapes_of(config), GRID, origin="some.pth")
    message = str(error.value)
    assert "some.pth" in message and "4 places" in message
    for part in (
        "vision_proj.weight is 9x64, expected 256x64",
        "not finite: visual_encoder.norm.bias has 64",
        "unexpected: visual_encoder.blocks.2.norm1.bias",
        "decoder.bias differs from text_decoder.cls.predictions.bias",
    ):
        assert part in message


def test_another_vocabulary_is_named(weights, config):
    config.model.text.vocab_size = 150
    with pytest.raises(UsageError, match="200x64, expected 150x64 .*vocab_size"):
        convert_lib.from_torch(weights, shapes_of(config), GRID)


def test_clip_is_refused_as_such(config):
    names = ("visual.conv1.weight", "transformer.resblocks.0.ln_1.weight", "logit_scale")
    clip = {name: np.zeros(3, np.float32) for name in names}
    with pytest.raises(UsageError, match="no CADA or BLIP checkpoint.*looks like CLIP"):
        convert_lib.from_torch(clip, shapes_of(config), GRID)


def gated_leaves(config, value):
    config.atp.gate = "token"
    leaves = random_leaves(config)
    return {p: np.full_like(x, value) if "/gate/" in p else x for p, x in leaves.items()}


def test_a_gate_travels_only_when_asked_for(tiny_config):
    leaves = gated_leaves(tiny_config, 0.1)
    with pytest.raises(UsageError, match="--drop_gate"):
        convert_lib.to_torch(leaves)
    dropped = convert_lib.to_torch(leaves, "drop_gate")
    assert not [name for name in dropped if "gate" in name]
    kept = convert_lib.to_torch(leaves, "keep")
    back, _ = convert_lib.from_torch(kept, shapes_of(tiny_config), (4, 2), (4, 2))
    assert_equal(back, leaves)


def test_an_untrained_gate_needs_no_permission(tiny_config):
    tensors = convert_lib.to_torch(gated_leaves(tiny_config, 0.0))
    _, report = convert_lib.from_torch(tensors, shapes_of(tiny_config), (4, 2), (4, 2))
    new = {row.ours for row in report if row.status == "new"}
    assert new == {"text_encoder/layers/gate/kernel", "text_encoder/layers/gate/bias"}


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_convolutional_stem_cannot_go_to_the_authors_code(tiny_config, side):
    tiny_config.model[side].stem = "conv"
    tiny_config.atp.gate = "off"
    leaves = random_leaves(tiny_config)
    with pytest.raises(UsageError, match="stem"):
        convert_lib.to_torch(leaves, "drop_gate")
    kept = convert_lib.to_torch(leaves, "keep")
    back, _ = convert_lib.from_torch(kept, shapes_of(tiny_config), (4, 2), (4, 2))
    assert_equal(back, leaves)


def test_positions_are_resized_as_in_the_released_code(golden):
    with np.load(golden / "a_posembed.npz") as arrays:
        for name in (n for n in arrays if n.endswith("/in")):
            wanted = arrays[name.replace("/in", "/out")]
            grids = [find_grid(x.shape[1] - 1, (0, 0)) for x in (arrays[name], wanted)]
            got = resize_positions(arrays[name], *grids)
            np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("target", [(24, 8), (5, 3), (28, 7), (14, 9)])
def test_positions_of_any_shape_are_resized_as_torch_does(torch, target):
    source, width = (14, 7), 6
    patches = np.random.default_rng(0).standard_normal((1, width, *source)).astype(np.float32)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(patches), size=target, mode="bicubic", align_corners=False
    )
    rows = np.moveaxis(patches, 1, -1).reshape(1, -1, width)
    positions = np.concatenate([np.full((1, 1, width), 7, np.float32), rows], axis=1)
    got = resize_positions(positions, source, target)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[:, 0], positions[:, 0])
    wanted = np.moveaxis(wanted.numpy(), 1, -1).reshape(1, -1, width)
    np.testing.assert_allclose(got[:, 1:], wanted, rtol=0, atol=5e-6)


def test_a_grid_nobody_stored_is_square_or_the_wanted_one():
    assert find_grid(196, (24, 8)) == (14, 14)
    assert find_grid(98, (14, 7)) == (14, 7)
    with pytest.raises(ValueError, match="99"):
        find_grid(99, (14, 7))


def test_positions_are_resized_while_converting(weights, config):
    config.data.image_size = (64, 32)
    leaves, _ = convert_lib.from_torch(weights, shapes_of(config), (4, 2))
    wanted = resize_positions(weights["visual_encoder.pos_embed"], (2, 2), (4, 2))
    np.testing.assert_array_equal(leaves["image_encoder/pos_embed"], wanted)


def save(torch, path, tensors, **beside):
    state = {name: torch.from_numpy(np.array(x)) for name, x in tensors.items()}
    torch.save({"model": state, **beside}, path)
    return path


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
        assert files_lib.is_torch_checkpoint(path)
        assert_equal(files_lib.read_checkpoint(path).tensors, weights)
    assert files_lib.read_checkpoint(whole).config == {"k": 32}


def test_half_precision_becomes_float32(torch, tmp_path):
    values = torch.randn(4, 3)
    torch.save({"a": values.half(), "b": values.bfloat16()}, tmp_path / "half.pth")
    tensors = files_lib.read_checkpoint(tmp_path / "half.pth").tensors
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


@pytest.fixture
def vocab(tmp_path):
    """A vocabulary file of 200 entries with [DEC] and [ENC]."""
    entries = [f"word{i}" for i in range(198)]
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    entries = [special.get(i, entry) for i, entry in enumerate(entries)]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(entries) + "\n")
    return path


@pytest.fixture
def config_file(config, tmp_path):
    """A config file of the golden model's sizes, as --config takes it."""
    path = tmp_path / "tiny.py"
    body = json.dumps(json.loads(config.to_json()))
    path.write_text(
        "import json\nfrom ml_collections import ConfigDict\n"
        "from cada_jax.config import with_tuples\n"
        f"def get_config():\n    return ConfigDict(with_tuples(json.loads({body!r})))\n"
    )
    return path


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


def test_a_vocabulary_of_another_size_is_refused(
    torch, convert, weights, tmp_path, config_file, vocab, capsys
):
    path = save(torch, tmp_path / "model.pth", weights)
    vocab.write_text(vocab.read_text() + "more\n")
    flags = [str(path), str(tmp_path / "model"), f"--config={config_file}", f"--vocab={vocab}"]
    assert convert(flags) == 2
    assert "201 entries" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert convert(flags[:3]) == 2
    assert "--vocab=bert-base-uncased" in capsys.readouterr().err


def test_the_tool_converts_there_and_back_bit_by_bit(
    torch, convert, weights, tmp_path, config_file, vocab, capsys
):
    source = save(torch, tmp_path / "authors.pth", weights)
    model, again = tmp_path / "model", tmp_path / "again"
    flags = [str(source), str(model), f"--config={config_file}", f"--vocab={vocab}"]
    assert convert(flags) == 0
    assert "rows: 91 loaded, 0 new, 4 left out" in capsys.readouterr().out
    assert convert([str(model), str(tmp_path / "back.pth")]) == 0
    content = torch.load(tmp_path / "back.pth", weights_only=True)
    state = {name: x.numpy() for name, x in content["model"].items()}
    assert_equal(state, weights)
    word = "text_decoder.bert.embeddings.word_embeddings.weight"
    copy = "text_decoder.cls.predictions.decoder.weight"
    assert content["model"][word].data_ptr() == content["model"][copy].data_ptr()
    # No flags: config and vocabulary travel inside the .pth.
    assert convert([str(tmp_path / "back.pth"), str(again)]) == 0
    first, second = (export.load_model(path) for path in (model, again))
    assert_equal(flatten_dict(second[0], sep="/"), flatten_dict(first[0], sep="/"))
    assert second[1].to_json() == first[1].to_json()
    assert second[2].read_text() == first[2].read_text()


def test_dropping_a_trained_gate_prints_its_cost(
    torch, convert, tiny_config, vocab, tmp_path, capsys
):
    leaves = gated_leaves(tiny_config, 0.3)
    model, target = tmp_path / "model", tmp_path / "model.pth"
    export.save_model(model, unflatten_dict(leaves, sep="/"), tiny_config, vocab)
    assert convert([str(model), str(target)]) == 2
    assert "--drop_gate" in capsys.readouterr().err and not target.exists()
    assert convert([str(model), str(target), "--drop_gate"]) == 0
    printed = capsys.readouterr().out
    moved = float(re.search(r"moves by (\S+) on average", printed).group(1))
    assert moved > 0
    kept = tmp_path / "kept.pth"
    assert convert([str(model), str(kept), "--keep_extras"]) == 0
    assert convert([str(kept), str(tmp_path / "back")]) == 0
    back, _, _ = export.load_model(tmp_path / "back")
    assert_equal(flatten_dict(back, sep="/"), leaves)


def test_a_missing_torch_is_said(monkeypatch, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingFileError, match="cada_jax\\[torch\\]"):
        files_lib.read_checkpoint(tmp_path / "a.pth")


def test_a_run_may_start_from_a_pytorch_checkpoint(torch, weights, config, tmp_path):
    save(torch, tmp_path / "released.pth", weights)
    config.init_from = str(tmp_path / "released.pth")
    config.atp.gate = "token"
    params = init_params(from_config(config), config, jax.random.key(0))
    filled, report = load_initial(config, params, tmp_path / "vocab.txt")
    wanted, _ = convert_lib.from_torch(weights, shapes_of(config), GRID)
    got = flatten_dict(jax.device_get(filled), sep="/")
    for name, leaf in wanted.items():
        np.testing.assert_array_equal(got[name], leaf, err_msg=name)
    assert set(report.new) == {n for n in got if "/gate/" in n}
