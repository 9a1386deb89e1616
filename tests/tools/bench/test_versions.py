"""Two checkouts side by side; whether one is faster is nothing a test can say."""

import json
import sys

import pytest

from cada_jax.common.errors import UsageError
from tests.conftest import REPOSITORY
from tools.bench import versions
from tools.bench.served import Task

CONFIG = """
from cada_jax.config import load_config

def get_config():
    config = load_config("default")
    config.data.image_size = (64, 64)
    for side in (config.model.image, config.model.text):
        side.update(width=64, depth=1, heads=2, mlp_dim=128)
    config.model.text.vocab_size = 1000
    config.model.tokens.update(dec=998, enc=999)
    config.model.embed_dim = 32
    config.train.batch_size = 4
    return config
"""
SERVED = """
import sys
print([3, 2], flush=True)
for _ in sys.stdin:
    print([1, 0.5], flush=True)
"""


def task(root, **fields):
    values = {"torch": False, "work": "step", "config": "synthetic", "changes": {}, "rows": 4}
    return Task(str(root), **(values | fields))


def test_versions_take_turns_and_the_third_call_of_each_counts(monkeypatch):
    calls = []

    class Fake:
        def __init__(self, task):
            self.root, self.compiled, self.calls = task.root, [9.0, 9.0], 0

        def run(self):
            calls.append(self.root)
            self.calls += 1
            counts = self.calls > 3 and self.calls % 3 == 0
            return [{"a": 4.0, "b": 2.0}[self.root], 1.0] if counts else [100.0, 100.0]

        def close(self):
            calls.append("closed")

    monkeypatch.setattr(versions, "Side", Fake)
    found = versions.compare((task("a"), task("b")), 3)
    assert calls == [*"aaabbb"] * 4 + ["closed"] * 2
    assert [side["call"] for side in found] == [[4.0, 1.0], [2.0, 1.0]]
    rows = versions.table({"step": found}).splitlines()
    assert rows[2].split() == ["step", "4000", "2000", "2", "1000", "1000", "1"]
    assert versions.table({"step": found[1:]}).splitlines()[2].split()[:4] == [
        *"step - 2000 -".split()
    ]


def test_a_version_that_ends_by_itself_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UsageError, match=tmp_path.name):
        versions.Side(task(tmp_path))


def test_a_version_answers_line_by_line(tmp_path, monkeypatch):
    script = tmp_path / "served.py"
    script.write_text(SERVED)
    monkeypatch.setattr(versions.served, "__file__", str(script))
    version = versions.Side(task(REPOSITORY))
    assert (version.compiled, version.run(), version.run()) == ([3, 2], [1, 0.5], [1, 0.5])
    version.close()


@pytest.mark.slow
def test_a_step_and_a_reranking_are_timed_beside_pytorch(tmp_path, capsys, torch, transformers):
    path = tmp_path / "small.py"
    path.write_text(CONFIG)
    changed = ["--change", "loss.global=tal"]
    flags = [f"--config={path}", "--against=torch", "--rows=2", "--repeats=1", *changed]
    assert versions.main(flags) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found) == set(versions.WORKS)
    assert all(len(sides) == 2 for sides in found.values())
    assert all(min(side["call"]) > 0 for sides in found.values() for side in sides)
