"""Devices by name: what exists, what does not, and what is said of it."""

import pytest

from cada_jax.common.errors import UsageError
from tools.device import topology
from tools.device.chips import GPUS, TPUS, target_config


@pytest.mark.parametrize(
    ("name", "platform", "groups", "shape", "count"),
    [
        ("cpu", "cpu", 1, (), 0),
        ("v5e:2x4", "tpu", 1, (2, 4), 8),
        ("v5p:2x2x4", "tpu", 1, (2, 2, 4), 16),
        ("2xv5e:2x4", "tpu", 2, (2, 4), 16),
        ("rtx4090", "gpu", 1, (1,), 1),
        ("b200:4x8", "gpu", 4, (8,), 32),
    ],
)
def test_a_name_gives_devices(name, platform, groups, shape, count):
    target = topology.find_target(name)
    assert (target.platform, target.groups, target.shape) == (platform, groups, shape)
    assert target.devices == count


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("v7:2x2", "known: v5e:2x4"),
        ("t4", "known: v5e:2x4"),
        ("h100:9", "known: v5e:2x4"),
        ("v5e:3x3", "has 2 sides, the first two even"),
        ("v5p:2x4", "has 3 sides"),
        ("v5e:32x32", "none above 16x16"),
    ],
)
def test_a_device_that_does_not_exist_is_one_line_with_those_that_do(name, says):
    with pytest.raises(UsageError, match=f"--device={name}: ") as raised:
        topology.find_target(name)
    assert says in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "extra"), [("v5e:2x4", "aot-tpu"), ("h100", "aot-gpu")])
def test_a_compiler_that_is_not_installed_is_named_with_its_extra(name, extra, monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(UsageError, match=rf"pip install -e '\.\[{extra}\]'"):
        topology.prepare(topology.find_target(name), (8, 1, 1))


def test_every_chip_has_figures_with_their_source():
    for chip in (*TPUS.values(), *GPUS.values()):
        assert 0.6 * chip.peak < chip.product < chip.peak
        assert chip.source and chip.link > chip.network
    for name, chip in GPUS.items():
        text = target_config(chip)
        assert text.count("{") == text.count("}") and chip.gpu.kind in text, name
