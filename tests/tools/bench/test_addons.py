"""The switches that are off by default, timed beside what they replace."""

import json

import pytest

from cada_jax.common.errors import UsageError
from cada_jax.config import validate
from tests.conftest import tiny_config_of_steps
from tools.bench import addons

CONFIG = """
from tests.conftest import tiny_config_of_steps

def get_config():
    config = tiny_config_of_steps()
    config.data.max_length = 37
    config.model.text.max_positions = 40
    config.model.text.vocab_size = 300
    config.model.image.depth = config.model.text.depth = 1
    return config
"""


@pytest.mark.slow
def test_every_switch_has_a_line_beside_the_step_without_any(tmp_path, capsys):
    path = tmp_path / "small.py"
    path.write_text(CONFIG)
    flags = [f"--config={path}", "--batch=4", "--rows=2", "--repeats=1", "--clock=cpu"]
    assert addons.main(flags) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed.splitlines()[-1])
    assert [line["switch"] for line in found["step"]] == list(addons.STEPS)
    assert [line["switch"] for line in found["rerank"]] == ["eval.mirror=False", "eval.mirror=True"]
    for lines in found.values():
        assert lines[0]["times"] == lines[0]["bytes_times"] == 1
        assert all(line["seconds"] > 0 and line["bytes"] > 0 for line in lines)
    assert found["rerank"][1]["bytes_times"] == 2
    assert all(line["switch"] in printed for line in found["step"])


@pytest.mark.parametrize("values", addons.STEPS.values())
def test_every_switch_that_is_timed_is_one_of_the_configuration(values):
    config = tiny_config_of_steps()
    validate(addons.changed(config, values))
    assert all(config.to_dict()[n.split(".")[0]][n.split(".")[1]] != v for n, v in values.items())
    with pytest.raises(UsageError):
        validate(addons.changed(config, {"loss.global": "nonsense"}))
