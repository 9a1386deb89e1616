"""What is read off a compiled step: collectives, and memory as the configuration has it."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cada_jax.common.errors import UsageError
from cada_jax.distributed import mesh as mesh_lib
from cada_jax.distributed import partitioning
from tools import collectives, compiled_step, memory
from tools.arguments import Parser


def test_collectives_in_a_loop_are_counted_as_often_as_it_runs(tiny_config):
    mesh = mesh_lib.make_mesh(tiny_config.mesh)
    rows, columns = (
        NamedSharding(mesh, PartitionSpec(*spec)) for spec in (("data", None), (None, "data"))
    )

    def sums(x, weights):
        def layer(x, w):
            return jnp.tanh(x @ w), None

        x, _ = jax.lax.scan(layer, x, weights)  # w's rows are split: a sum over devices each time
        return jnp.sum(x)

    x = jax.ShapeDtypeStruct((4, 16), jnp.float32, sharding=columns)
    split = NamedSharding(mesh, PartitionSpec(None, "data", None))
    weights = jax.ShapeDtypeStruct((5, 16, 16), jnp.float32, sharding=split)
    hlo = jax.jit(sums).lower(x, weights).compile().as_text()
    found = [c for c in collectives.read_collectives(hlo) if c.times == 5]
    assert found and all(c.size in (4 * 16 * 4, 4 * 16 * 4 // 8) for c in found)
    text = collectives.table(collectives.read_collectives(hlo), rows=1)
    assert "all of all-" in text and "f32[" in text
    del rows


def test_what_is_counted_of_a_reduce_scatter_is_what_goes_in():
    read = collectives.read_collectives
    hlo = """
HloModule jit_f

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %c = f32[] add(%a, %b)
}

ENTRY %main (x: f32[64,4]) -> bf16[8,4] {
  %y = (f32[8,4]{1,0}, f32[2]{0}) reduce-scatter(%x), replica_groups=[1,8]<=[8], to_apply=%add
  ROOT %z = bf16[16,4]{1,0} all-gather(%y), replica_groups={{0,1},{2,3}}, metadata={op_name="jit(f)/a/b"}
}
"""  # noqa: E501
    first, second = read(hlo)
    assert (first.kind, first.size, first.times) == ("reduce-scatter", 8 * 4 * (8 * 4 + 2), 1)
    assert (second.kind, second.size, second.purpose) == ("all-gather", 2 * 16 * 4, "a/b")
    with pytest.raises(ValueError, match="no ENTRY"):
        read("")


def test_the_count_of_memory_follows_the_configuration(tiny_config):
    def peak(data=1, **changes):
        config = tiny_config.copy_and_resolve_references()
        config.update_from_flattened_dict(changes)
        parts = memory.activation_bytes(config, data, 1)
        return memory.peak_of(parts, config.train.accumulation > 1)

    whole = peak()
    assert peak(data=4) == whole // 4
    assert peak(**{"model.remat": "full"}) < peak(**{"model.remat": "light"}) < whole
    assert peak(**{"train.accumulation": 4}) < peak(**{"train.accumulation": 2}) < whole
    assert whole / 2 < peak(**{"model.dtype": "bfloat16"}) < whole
    assert peak(**{"loss.atp_weight": 0.0}) < whole
    # By hand: 9 tokens of width 32 in 2 heads and 64 hidden units, 2 layers, 8 images, float32.
    parts = memory.activation_bytes(tiny_config, 1, 1)
    hidden = 8 * 9 * (3 * 32 + 2 * 64 + 5 * 32) * 4
    weights = 8 * 2 * 9 * 9 * 4
    inputs = 8 * 9 * 32 * 4
    assert parts["image encoder"] == 2 * (hidden + weights + inputs)
    # Logits and their gradient of 8 captions at 16 masked positions, however long they are.
    assert parts["vocabulary logits"] == 2 * 8 * 16 * 200 * 4


def test_parameters_and_optimizer_are_counted_as_they_are_split(tiny_config, monkeypatch):
    monkeypatch.setattr(partitioning, "MIN_FSDP_SIZE", 1)
    whole = memory.state_bytes(compiled_step.describe_step(tiny_config).state)
    tiny_config.mesh.data, tiny_config.mesh.fsdp = 1, 8
    step = compiled_step.describe_step(tiny_config)
    split = memory.state_bytes(step.state)
    assert whole[1] > 2.9 * whole[0]
    assert whole[0] / 8 <= split[0] < whole[0] / 6
    assert "at once, by count" in memory.report(step)


def test_rows_stay_where_they_are_when_parameters_are_split(tiny_config, monkeypatch):
    """Parameters come to the activations; no activation is sent to be split by features."""
    monkeypatch.setattr(partitioning, "MIN_FSDP_SIZE", 512)
    tiny_config.mesh.data, tiny_config.mesh.fsdp = 2, 4
    step = compiled_step.compile_step(compiled_step.describe_step(tiny_config))
    found = collectives.read_collectives(step.compiled.as_text())
    of_a_device = tiny_config.train.batch_size // 8 * tiny_config.data.max_length
    activation = 4 * of_a_device * tiny_config.model.text.width
    assert [c for c in found if c.kind == "all-gather"]
    assert not [c for c in found if c.kind == "all-to-all" and c.size >= activation]


def test_a_mesh_that_does_not_fit_the_batch_is_refused(tiny_config):
    tiny_config.train.batch_size = 12
    with pytest.raises(UsageError, match="not a multiple of 8"):
        compiled_step.describe_step(tiny_config)


def test_the_flags_give_the_configuration_with_its_mesh():
    parser = Parser("tools.memory", None)
    compiled_step.add_flags(parser)
    argv = ["--config=rstp:large", "--mesh=2x4x1", "--set", "train.epochs=3", "model.remat=full"]
    flags = parser.flags(argv)
    config = compiled_step.read_config(flags)
    assert tuple(config.mesh[axis] for axis in ("data", "fsdp", "tensor")) == (2, 4, 1)
    assert (config.train.epochs, config.model.remat) == (3, "full")
    title = compiled_step.title(flags)
    assert title == "rstp:large train.epochs=3 model.remat=full on 2x4x1"
