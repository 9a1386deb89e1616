"""One byte that changed in what a run saved is refused, or it changes nothing."""

import pytest

from tests.checkpoints import saved


@pytest.mark.parametrize(
    "flips", [pytest.param(30, id="some"), pytest.param(400, marks=pytest.mark.slow, id="many")]
)
def test_no_flipped_byte_gives_other_parameters(tiny_config, tmp_path, flips):
    saved.save_run(tmp_path, tiny_config)
    outcomes = saved.flip_bytes(tmp_path, flips, seed=flips)
    print(dict(outcomes))
    assert outcomes["silent"] == 0 and sum(outcomes.values()) == flips
    assert outcomes["refused"] > flips // 3  # or the flips did not reach the files that are read
