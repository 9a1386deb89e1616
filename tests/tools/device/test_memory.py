"""Memory: the count as the configuration has it, and what compilers say of too little."""

import pytest

from cada_jax.distributed import partitioning
from tools.device import memory, programs
from tools.device.memory import GIB, Memory


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
    whole = memory.state_bytes(programs.train_program(tiny_config).state)
    tiny_config.mesh.data, tiny_config.mesh.fsdp = 1, 8
    step = programs.train_program(tiny_config)
    split = memory.state_bytes(step.state)
    # The moments alone are split over data, everything over fsdp.
    assert 1.25 * whole[0] <= whole[1] < 1.4 * whole[0]
    assert whole[0] / 8 <= split[0] < whole[0] / 6
    assert split[1] > 2.9 * split[0]
    counted = memory.counted(tiny_config, step.state, step.mesh.shape)
    assert counted["parameters"] == split[0]
    assert list(counted)[-1] == "at once, by count"
    assert counted["at once, by count"] == sum(counted.values()) / 2


@pytest.mark.parametrize(
    ("message", "needed", "available"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (80.63G) exceeds available HBM (15.75G).",
            80.63 * GIB,
            15.75 * GIB,
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 20.30G of 15.75G hbm. Exceeded hbm capacity by 4.55G.",
            20.3 * GIB,
            15.75 * GIB,
        ),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1024 bytes.", 1024, 0),
        ("RESOURCE_EXHAUSTED: something new", 0, 0),
    ],
)
def test_a_refusal_gives_the_sizes_that_its_message_names(message, needed, available):
    found = memory.refused_memory(message)
    assert found == Memory(needed=round(needed), available=round(available), refused=True)
    assert found.total == round(needed)


@pytest.mark.parametrize("message", ["INTERNAL: Mosaic failed to compile", "", "NOT_FOUND: x"])
def test_another_error_of_the_compiler_is_no_refusal(message):
    assert memory.refused_memory(message) is None


def test_memory_at_once_is_what_stays_and_what_the_program_takes_beside_it():
    assert Memory(inputs=3, running=4).total == 7
