"""Collectives of compiled programs: bytes, times, and copies that count once."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cada_jax.distributed import mesh as mesh_lib
from cada_jax.distributed import partitioning
from tests.tools.device import hlo_texts
from tools.device import collectives, hlo, programs
from tools.device.chips import TPUS


def read(text: str) -> list[collectives.Collective]:
    """The collectives of a program given as text."""
    return collectives.read_collectives(hlo.parse(text))


def test_collectives_in_a_loop_are_counted_as_often_as_it_runs(tiny_config):
    mesh = mesh_lib.make_mesh(tiny_config.mesh)
    columns = NamedSharding(mesh, PartitionSpec(None, "data"))

    def sums(x, weights):
        def layer(x, w):
            return jnp.tanh(x @ w), None

        x, _ = jax.lax.scan(layer, x, weights)  # w's rows are split: a sum over devices each time
        return jnp.sum(x)

    x = jax.ShapeDtypeStruct((4, 16), jnp.float32, sharding=columns)
    split = NamedSharding(mesh, PartitionSpec(None, "data", None))
    weights = jax.ShapeDtypeStruct((5, 16, 16), jnp.float32, sharding=split)
    every = read(jax.jit(sums).lower(x, weights).compile().as_text())
    found = [c for c in every if c.times == 5]
    assert found and all(c.size in (4 * 16 * 4, 4 * 16 * 4 // 8) for c in found)
    text = collectives.table(every, rows=1)
    assert "all of all-" in text and "f32[" in text


def test_what_is_counted_of_a_reduce_scatter_is_what_goes_in():
    first, second = read(
        """
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %c = f32[] add(%a, %b)
}

ENTRY %main (x: f32[64,4]) -> bf16[8,4] {
  %x = f32[64,4]{1,0} parameter(0)
  %y = f32[8,4]{1,0} reduce-scatter(%x), replica_groups=[1,8]<=[8], to_apply=%add
  ROOT %z = bf16[16,4]{1,0} all-gather(%y), metadata={op_name="jit(f)/a/b"}
}
"""
    )
    assert (first.kind, first.size, first.times) == ("reduce-scatter", 64 * 4 * 4, 1)
    assert (second.kind, second.size, second.purpose) == ("all-gather", 2 * 16 * 4, "a/b")


def test_copies_of_a_collective_that_runs_beside_others_work_count_once():
    found = sorted(read(hlo_texts.ASYNC), key=lambda c: c.kind)
    assert [(c.kind, c.size, c.times) for c in found] == [
        ("all-gather", 16 * 4 * 4, 1),
        ("all-gather", 16 * 4 * 4, 1),
        ("reduce-scatter", 16 * 4 * 4, 1),
    ]
    apart = hlo_texts.ASYNC.replace('chain_id="23"', "")
    assert len(read(apart)) > 3
    assert collectives.total_bytes(found) == {"all-gather": 512, "reduce-scatter": 256}


def test_a_program_of_one_device_sends_nothing():
    assert read(hlo_texts.LOOPS) == []
    assert "nothing" in collectives.table([], rows=3)


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("replica_groups={{0,2},{1,3}}, to_apply", (0, 2)),
        ("replica_groups=[2,4]<=[8], to_apply", (0, 1, 2, 3)),
        ("replica_groups=[4,2]<=[2,4]T(1,0), to_apply", (0, 4)),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}, to_apply", (0, 1, 2, 3)),
        ("source_target_pairs={{3,0},{0,3}}", (3, 0)),
        ("to_apply=%add", ()),
    ],
)
def test_who_works_together_is_read_in_every_spelling(text, group):
    assert collectives.group_of(text) == group


def test_a_gather_within_a_slice_takes_its_bytes_over_the_links():
    chip = TPUS["v5e"]
    gather = collectives.Collective("all-gather", "", 8_000_000, 1, "", tuple(range(8)))
    assert gather.seconds(chip, 8, 8) == pytest.approx(7e6 / chip.link)
    exchange = gather._replace(kind="all-to-all")
    split = 3e6 / chip.link + 4e6 / chip.network  # half of it goes to the other slice
    assert exchange.seconds(chip, 8, 4) == pytest.approx(split)


def test_rows_stay_where_they_are_when_parameters_are_split(tiny_config, monkeypatch):
    """Parameters come to the activations; no activation is sent to be split by features."""
    monkeypatch.setattr(partitioning, "MIN_FSDP_SIZE", 512)
    tiny_config.mesh.data, tiny_config.mesh.fsdp = 2, 4
    step = programs.train_program(tiny_config)
    found = read(step.lower().compile().as_text())
    of_a_device = tiny_config.train.batch_size // 8 * tiny_config.data.max_length
    activation = 4 * of_a_device * tiny_config.model.text.width
    assert [c for c in found if c.kind == "all-gather"]
    assert not [c for c in found if c.kind == "all-to-all" and c.size >= activation]
