"""Two checkouts side by side; whether one is faster is nothing a test can say."""

import sys
from types import SimpleNamespace

import pytest

from tests.conftest import REPOSITORY
from tools.bench import versions

SERVED = """
import sys
print([3, 2], flush=True)
for _ in sys.stdin:
    print([1, 0.5], flush=True)
"""


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, capsys):
    assert versions.main([f"--against={tmp_path}"]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_versions_take_turns_and_the_third_call_of_each_counts(monkeypatch):
    calls = []

    class Fake:
        def __init__(self, root, *_):
            self.root, self.compiled, self.calls = root, [9.0, 9.0], 0

        def run(self):
            calls.append(self.root)
            self.calls += 1
            counts = self.calls > 3 and self.calls % 3 == 0
            return [{"a": 4.0, "b": 2.0}[self.root], 1.0] if counts else [100.0, 100.0]

        def close(self):
            calls.append("closed")

    monkeypatch.setattr(versions, "Version", Fake)
    flags = SimpleNamespace(config="synthetic", rows=4, repeats=3)
    found = versions.compare(("a", "b"), "step", flags)
    assert calls == [*"aaabbb"] * 4 + ["closed"] * 2
    assert (found["before"], found["now"]) == ([4.0, 1.0], [2.0, 1.0])


def test_a_version_that_ends_by_itself_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(versions.UsageError, match=tmp_path.name):
        versions.Version(tmp_path, "step", "synthetic", 4)


def test_a_version_answers_line_by_line(tmp_path, monkeypatch):
    script = tmp_path / "served.py"
    script.write_text(SERVED)
    monkeypatch.setattr(versions, "__file__", str(script))
    version = versions.Version(REPOSITORY, "step", "synthetic", 4)
    assert (version.compiled, version.run(), version.run()) == ([3, 2], [1, 0.5], [1, 0.5])
    version.close()
