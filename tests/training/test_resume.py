"""A run that is killed at any moment, and continued, ends as one that was left alone."""

import functools

import jax

from cada_jax.checkpoints import inspect
from tests import cheap_run
from tests.conftest import FAST_COMPILE, REPOSITORY
from tools import check_resume


def test_a_run_killed_at_any_moment_and_continued_equals_one_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)  # where the processes find the tests' modules
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    jax.devices()  # this process has its own before
    one = f"--xla_force_host_platform_device_count=1 {FAST_COMPILE}"
    monkeypatch.setenv("XLA_FLAGS", one)
    check_resume.CONTEXT.set_forkserver_preload(["tests.cheap_run"])  # imported once

    root = tmp_path / "runs"
    alone = functools.partial(cheap_run.run, checkpoint_every=0)
    straight, killed, done = check_resume.compare(
        alone, cheap_run.run, root, kills=3, terms=1, seed=0
    )

    assert straight == killed and len(straight) == 2  # the last parameters and the best
    assert straight[0] != straight[1]
    assert [kill.exit_code for kill in done] == [-9] * 3 + [143]
    assert sum(kill.saving for kill in done) >= 2
    steps = [kill.step for kill in done]
    assert steps == sorted(steps) and 0 < steps[0] < steps[-1] < cheap_run.STEPS
    assert inspect.read(root / "killed").step == cheap_run.STEPS
    log = (root / "killed.log").read_text()
    for step in steps:
        assert f"Continuing after step {step}." in log
