"""Devices by name: what exists, what does not, and what is said of it."""

import sys

import pytest

from cada_jax.common.errors import UsageError
from tools.device import topology
from tools.device.chips import GPUS, TPUS
from tools.device.gpu_targets import DESCRIPTIONS, target_config


@pytest.mark.parametrize(
    ("name", "platform", "slices", "shape", "count"),
    [
        ("cpu", "cpu", 1, (), 0),
        ("v5e:2x4", "tpu", 1, (2, 4), 8),
        ("v5e:1x1", "tpu", 1, (1, 1), 1),
        ("v5e:16x16", "tpu", 1, (16, 16), 256),
        ("v6e:2x4", "tpu", 1, (2, 4), 8),
        ("v5p:2x2x1", "tpu", 1, (2, 2, 1), 4),
        ("v5p:2x2x4", "tpu", 1, (2, 2, 4), 16),
        ("2xv5e:2x4", "tpu", 2, (2, 4), 16),
        ("h100", "gpu", 1, (1,), 1),
        ("h200:8", "gpu", 1, (8,), 8),
        ("b200:4x8", "gpu", 4, (8,), 32),
    ],
)
def test_a_name_gives_devices(name, platform, slices, shape, count):
    target = topology.find_target(name)
    assert (target.platform, target.slices, target.shape) == (platform, slices, shape)
    assert target.devices == count


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("v7:2x2", "known: v5e:2x4"),
        ("a100", "known: v5e:2x4"),
        ("h100:v5e", "known: v5e:2x4"),
        ("", "known: v5e:2x4"),
        ("v5e", "known: v5e:2x4"),
        ("0xv5e:2x4", "known: v5e:2x4"),
        ("v5e:3x3", "v5e:AxB with A and B even"),
        ("v5e:2x4x1", "v5e:AxB"),
        ("v5p:2x4", "v5p:AxBxC"),
        ("v5e:32x32", "at most 16x16"),
        ("v5p:2x2x64", "at most 16x20x28"),
        ("99xv5e:2x4", "at most 64 slices"),
        ("h100:9", "at most 512 machines of 8 GPUs"),
    ],
)
def test_a_device_that_does_not_exist_is_one_line_with_those_that_do(name, says):
    with pytest.raises(UsageError, match=f"--device={name}: ") as raised:
        topology.find_target(name)
    assert says in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "hidden", "extra"),
    [("v5e:2x4", "libtpu", "aot-tpu"), ("h100", "jax_plugins.xla_cuda13", "aot-gpu")],
)
def test_a_compiler_that_is_not_installed_is_named_with_its_extra(name, hidden, extra, monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(UsageError, match=rf"pip install -e '\.\[{extra}\]'"):
        topology.prepare(topology.find_target(name), (8, 1, 1))

    def missing(module):
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(topology.importlib.util, "find_spec", missing)
    with pytest.raises(UsageError, match=extra):
        topology.prepare(topology.find_target(name), (8, 1, 1))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            "ABORTED: The TPU is already in use by process with pid 7. Not attempting to load "
            "libtpu.so in this process.",
            "another process holds libtpu (/tmp/libtpu_lockfile)",
        ),
        ("Internal error when accessing libtpu multi-process\n lockfile", "another process holds"),
        ("INVALID_ARGUMENT: Topology layout is\nnot divisible", "does not know these devices"),
    ],
)
def test_what_the_runtime_says_becomes_one_line(message, says, monkeypatch):
    from jax.experimental import topologies

    def refuse(*names, **options):
        raise RuntimeError(message)

    monkeypatch.setattr(topologies, "get_topology_desc", refuse)
    with pytest.raises(UsageError) as raised:
        topology.devices_of(topology.find_target("v5e:2x4"), (8, 1, 1))
    assert says in str(raised.value) and "\n" not in str(raised.value)


def test_the_cpu_gives_as_many_devices_as_the_mesh_has():
    assert len(topology.devices_of(topology.find_target("cpu"), (2, 2, 1))) == 4


def test_the_names_of_two_slices_and_of_one_chip_reach_the_compiler(monkeypatch):
    from jax.experimental import topologies

    asked = []

    class Described:
        devices = ()

    def record(name, platform, **options):
        asked.append((platform, name, options))
        return Described

    monkeypatch.setattr(topologies, "get_topology_desc", record)
    for name in ("2xv5e:2x4", "v5e:1x1", "h100:4x8"):
        topology.devices_of(topology.find_target(name), (1, 1, 1))
    assert asked[0] == ("tpu", "v5e:2x4", {"num_slices": 2})
    assert asked[1] == ("tpu", "v5e:1x1", {"chips_per_host_bounds": (1, 1, 1)})
    assert asked[2][2]["topology"] == "1x4x8" and "H100" in asked[2][2]["target_config"]


def test_every_gpu_has_figures_and_a_description():
    assert GPUS.keys() == DESCRIPTIONS.keys()
    for name, chip in GPUS.items():
        text = target_config(name)
        assert text.count("{") == text.count("}")
        assert DESCRIPTIONS[name].memory == pytest.approx(chip.memory, rel=0.08)
        assert DESCRIPTIONS[name].bandwidth == pytest.approx(chip.bandwidth, rel=0.01)
        assert chip.product == chip.peak and chip.source


@pytest.mark.parametrize("chip", TPUS.values(), ids=TPUS)
def test_no_tpu_multiplies_faster_than_its_peak(chip):
    assert 0.6 * chip.peak < chip.product < chip.peak
    assert chip.source


def test_jax_is_not_imported_to_look_a_device_up(run_python):
    lines = "import sys; from tools.device import topology; topology.find_target('v5e:2x4')"
    assert run_python(f"{lines}; print('jax' in sys.modules)").strip() == "False"


@pytest.fixture
def run_python():
    """-> what a Python program of one line prints."""
    import subprocess

    def run(code):
        return subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout

    return run
