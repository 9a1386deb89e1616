"""Checkpoints changed at random are refused in one sentence, or give the same parameters."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cada_jax.checkpoints.torch import files
from cada_jax.checkpoints.torch.convert import IMAGE_POSITIONS, from_torch
from cada_jax.checkpoints.torch.names import STATE_KEYS, WRAPPERS
from cada_jax.checkpoints.torch.state import find_tensors
from cada_jax.common.errors import UsageError
from tests.checkpoints.torch.support import GRID, as_tensors, assert_equal, shapes_of

# The fixtures hold the same arrays for every example, and nothing changes them.
same_for_all = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

wrappers = st.sampled_from(sorted(WRAPPERS))
CHANGES = (
    "drop",
    "rename",
    "take the next one's name",
    "reshape",
    "transpose",
    "cut",
    "lengthen",
    "integers",
    "nan",
    "a different copy under a prefix",
    "an equal copy under a prefix",
    "a tensor nobody knows",
)
# Two of these in a row give other values in the expected shape and name, which nobody can notice.
FORM = {"take the next one's name", "cut", "lengthen"}
changes = st.lists(
    st.tuples(st.sampled_from(CHANGES), st.integers(0, 10**6), wrappers), min_size=1, max_size=3
).filter(lambda steps: sum(change in FORM for change, *_ in steps) < 2)
SHAPES = {
    "reshape": lambda x: x.reshape(-1),
    # A transposed square has the same shape: other values, which nobody can tell from weights.
    "transpose": lambda x: x if len(set(x.shape)) == 1 else np.ascontiguousarray(x.T),
    "cut": lambda x: x[:-1],
    "lengthen": lambda x: np.concatenate([x, x[:1]]),
    "integers": lambda x: x.astype(np.int32),
    "nan": lambda x: np.full_like(x, np.nan, dtype=np.float32),
}


def changed(tensors, change, number, wrapper):
    """`tensors` with one of them changed, and a new dictionary."""
    names = sorted(tensors)
    name, following = names[number % len(names)], names[(number + 1) % len(names)]
    array, others = tensors[name], {n: x for n, x in tensors.items() if n != name}
    if change == "drop":
        return others
    if change == "rename":
        return others | {f"{name}x": array}
    if change == "take the next one's name":
        return others | {following: array}
    if change in SHAPES:
        return others | {name: SHAPES[change](np.atleast_1d(array))}
    if change == "a tensor nobody knows":
        return tensors | {"what.is.this": np.ones(3, np.float32)}
    other = array if change == "an equal copy under a prefix" else array + 1
    return tensors | {f"{wrapper}.{name}": other}


@same_for_all
@given(steps=changes)
def test_changed_tensors_never_give_other_parameters(weights, config, steps):
    shapes = shapes_of(config)
    wanted, _ = from_torch(weights, shapes, GRID)
    tensors = weights
    for step in steps:
        tensors = changed(tensors, *step) or tensors
    try:
        leaves, rows = from_torch(find_tensors("a.pth", tensors), shapes, GRID)
    except UsageError:
        return
    reported = {row.ours for row in rows if row.status in ("new", "resized")}
    assert set(wanted) - set(leaves) <= reported
    for name in set(leaves) - (reported & {IMAGE_POSITIONS}):
        np.testing.assert_array_equal(leaves[name], wanted[name], err_msg=name)


keys = st.lists(st.sampled_from(STATE_KEYS), max_size=3)


@same_for_all
@given(prefix=st.lists(wrappers, max_size=4), keys=keys, beside=st.booleans())
def test_wrappers_in_any_order_and_number_change_nothing(weights, prefix, keys, beside):
    content = {".".join([*prefix, name]): array for name, array in weights.items()}
    for key in keys:
        content = {key: content}
        if beside:
            content |= {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": np.ones(4)}}}}
    assert_equal(find_tensors("a.pth", content), weights)


ARRAYS = {
    "itm_head.weight": np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32),
    "itm_head.bias": np.array([0.5, -0.5], np.float32),
    "text_proj.weight": np.linspace(3, 4, 200, dtype=np.float32).reshape(4, 50),
}


def written(torch, form):
    """The bytes of a checkpoint of ARRAYS."""
    if form == "safetensors":
        from safetensors.numpy import save

        return save(ARRAYS)
    buffer = io.BytesIO()
    state = {"model": as_tensors(torch, ARRAYS), "epoch": 3}
    torch.save(state, buffer, _use_new_zipfile_serialization=form == "zip")
    return buffer.getvalue()


def read(path, content):
    """The tensors of a file with that content, None if it is refused."""
    path.write_bytes(content)
    try:
        return files.read_checkpoint(path).tensors
    except UsageError as error:
        assert str(path) in str(error)
        return None


FORMS = ("zip", "before 1.6", "safetensors")


@pytest.mark.parametrize("form", FORMS)
@same_for_all
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(torch, tmp_path, form, share):
    content = written(torch, form)
    tensors = read(tmp_path / "cut", content[: int(share * len(content))])
    assert tensors is None


@pytest.mark.parametrize("form", FORMS)
@same_for_all
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing(torch, tmp_path, form, place, mask):
    content = bytearray(written(torch, form))
    content[int(place * len(content))] ^= mask
    tensors = read(tmp_path / "changed", content)
    # Only zip has checksums: in the other two a changed value is a value like any other.
    if tensors is not None and form == "zip":
        assert_equal(tensors, ARRAYS)


@same_for_all
@given(content=st.binary(max_size=700))
def test_any_bytes_are_refused(torch, tmp_path, content):
    assert read(tmp_path / "bytes", content) is None


@same_for_all
@given(rest=st.binary(max_size=300), head=st.sampled_from([b"\x80\x02", b"PK\x03\x04", b"{"]))
def test_any_bytes_after_a_known_beginning_are_refused(torch, tmp_path, head, rest):
    if head == b"{":  # a safetensors header of the length of the rest
        head = len(rest + head).to_bytes(8, "little") + head
    assert read(tmp_path / "bytes", head + rest) is None
