"""The parts of a step that see the whole batch: what of them grows with it, and what does not."""

import jax
import pytest

from cada_jax.distributed import mesh as mesh_lib
from tests.distributed.test_sharding import mesh_config
from tools.device import whole_batch


def table(batch):
    mesh = mesh_lib.make_mesh(mesh_config(8))
    lines = whole_batch.compiled_lines(mesh, batch, ["tokens", "gradient", "gathered"])
    rows = [line.split() for line in lines]
    return {row[1]: (float(row[2]), float(row[3])) for row in rows}


def test_bringing_rows_takes_less_memory_and_sends_less_than_gathering_all():
    found = table(64)
    assert set(found) == {"tokens", "gradient", "gathered"}
    whole = 64 * 197 * 768 * 4 / 1e6
    # The CPU's compiler sends bfloat16 as float32: twice a device's share, and the index.
    for part in ("tokens", "gradient"):
        assert found[part][1] == pytest.approx(2 * whole / 8, rel=0.01)
        assert found[part][0] < found["gathered"][0] / 2
    assert found["gathered"][1] == pytest.approx(whole, rel=0.01)


@pytest.mark.parametrize("reason", ["RESOURCE_EXHAUSTED: 105.01G exceeds 95.74G", "INTERNAL: ?"])
def test_a_program_that_does_not_fit_is_a_line_and_other_failures_are_not(reason, monkeypatch):
    def fail(self):
        raise jax.errors.JaxRuntimeError(reason)

    monkeypatch.setattr(jax.stages.Lowered, "compile", fail)
    mesh = mesh_lib.make_mesh(mesh_config(8))
    lines = whole_batch.compiled_lines(mesh, 64, ["gathered"])
    if reason.startswith("INTERNAL"):
        with pytest.raises(jax.errors.JaxRuntimeError):
            next(lines)
    else:
        assert "gathered           does not fit: RESOURCE_EXHAUSTED: 105.01G" in next(lines)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (["--device=cpu", "--mesh=8x1x1", "--batch=12"], "--batch = 12 is not a multiple of 8"),
        (["--device=v9:1x1", "--batch=8"], "--device=v9:1x1: no such device is known"),
        (["--device=v5e:2x4", "--mesh=4x1x1", "--batch=8"], "their numbers must be equal"),
    ],
)
def test_what_cannot_be_compiled_is_one_line(flag, message, capsys, monkeypatch):
    monkeypatch.setattr(whole_batch.topology.os, "environ", {})  # JAX has started in this process
    assert whole_batch.main(flag) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch=8"], "arguments are required: --device"),
        (["--device=cpu", "--batch=0"], "expected a whole number from 1"),
        (["--device=cpu", "--batch=8", "--only", "token"], "invalid choice: 'token'"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        whole_batch.read_flags(flags)
    assert message in capsys.readouterr().err
