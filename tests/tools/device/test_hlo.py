"""Reading compiled HLO: how often each computation runs, by hand-written texts."""

import jax
import jax.numpy as jnp
import pytest

from tests.tools.device import hlo_texts
from tools.device import hlo


def times(text: str) -> dict[str, int]:
    """How often each computation runs."""
    return dict(hlo.runs(hlo.parse(text)).times)


def test_loops_multiply_and_their_length_is_read_from_counter_bound_and_step():
    assert times(hlo_texts.LOOPS) == {
        "main": 1,
        "outer_body": 3,
        "outer_condition": 3,
        "inner_body": 12,
        "inner_condition": 12,
    }


@pytest.mark.parametrize(
    ("old", "new", "trips"),
    [
        ("constant(5)", "constant(50)", 48),
        ("constant(2)\n  %held", "constant(0)\n  %held", 5),
        ("(%ej, %five), direction=LT", "(%ej, %five), direction=LE", 4),
        ("(%ej, %five), direction=LT", "(%ej, %five), direction=NE", 3),
        ("%after = s32[] add(%j, %one)", "%after = s32[] subtract(%j, %one)", 0),
        ("constant(5)", "constant(1)", 0),
        ("body=%outer_body", 'body=%outer_body, backend_config={"known_trip_count":{"n":"9"}}', 9),
    ],
)
def test_another_counter_gives_another_count(old, new, trips):
    assert old in hlo_texts.LOOPS
    assert times(hlo_texts.LOOPS.replace(old, new))["outer_body"] == trips


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("%five = s32[] constant(5)", "%five = s32[] get-tuple-element(%e), index=0"),
        ("%after = s32[] add(%j, %one)", "%after = s32[] multiply(%j, %one)"),
        ("%held = s32[] copy(%begin)", "%held = s32[] negate(%begin)"),
        ("ROOT %test = pred[] compare(%ej, %five), direction=LT", "ROOT %test = pred[] not(%ej)"),
    ],
)
def test_a_loop_whose_length_is_not_there_counts_once_and_is_named(old, new):
    assert old in hlo_texts.LOOPS
    found = hlo.runs(hlo.parse(hlo_texts.LOOPS.replace(old, new)))
    assert found.unknown == ["while.2"]
    assert found.times["outer_body"] == 1
    assert found.times["inner_body"] == 4


def test_every_branch_and_every_call_counts():
    assert times(hlo_texts.BRANCHES) == {"main": 1, "called": 1, "plain": 1, "dear": 1}


def test_what_a_fusion_holds_is_part_of_it():
    module = hlo.parse(hlo_texts.LOOPS)
    [fusion] = [i for i in module.computations["main"].values() if i.opcode == "fusion"]
    assert [i.opcode for i in module.fused(fusion)] == ["parameter", "negate"]
    assert "fused" not in times(hlo_texts.LOOPS)


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ("f32[8,4]{1,0:T(8,128)}", 128),
        ("(bf16[3,5]{1,0}, /*index=1*/pred[7], s32[])", 30 + 7 + 4),
        ("u64[]", 8),
        ("token[]", 0),
    ],
)
def test_bytes_of_shapes(shapes, size):
    assert hlo.byte_size(shapes) == size


@pytest.mark.parametrize("text", ["", "HloModule empty", "ENTRY main", "no HLO at all\n\n"])
def test_a_text_that_is_no_program_is_refused(text):
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse(text)


def test_the_loops_of_a_program_that_jax_compiles_are_found():
    def outer(x, _):
        return jax.lax.scan(lambda y, w: (jnp.tanh(y @ w), None), x, weights)[0], None

    weights = jnp.ones((5, 8, 8))
    compiled = jax.jit(lambda x: jax.lax.scan(outer, x, None, length=3)[0]).lower(weights[0])
    found = hlo.runs(hlo.parse(compiled.compile().as_text()))
    assert max(found.times.values()) == 15
    assert not found.unknown
