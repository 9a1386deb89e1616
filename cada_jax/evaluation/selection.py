"""What a run would report had it been selected on test, as published numbers often are.

Scores on test at every evaluation beside the split that selects, and keeps the best of them in
WORKDIR/test_selected.json. No parameters are kept for it: nothing but this number depends on it.
"""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from cada_jax.common.files import write_text

NOTE = (
    "Selected on the very split it is measured on, so it is too good: only for comparison with "
    "numbers selected the same way. The result of this run is the one outside this entry."
)


class BestOnTest:
    """A function (step, params) -> results on the selecting split, as the loop calls it.

    Args:
      workdir: of the run.
      score: params -> results on the split that selects.
      score_test: params -> results on test.
      metric: what selects, as "reranked/R1".
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        score: Callable[[Any], dict],
        score_test: Callable[[Any], dict],
        metric: str,
    ):
        self._path = pathlib.Path(workdir) / "test_selected.json"
        self._score, self._score_test = score, score_test
        self._metric = metric
        self.best: dict[str, Any] | None = None
        if self._path.exists():
            self.best = json.loads(self._path.read_text(encoding="utf-8"))

    def __call__(self, step: int, params: Any) -> dict:
        """Scores on both splits and returns what the selecting one gave."""
        results, on_test = self._score(params), self._score_test(params)
        stage, _, name = self._metric.partition("/")
        value = on_test.get(stage, {}).get(name)
        if value is not None and (self.best is None or value > self.best["value"]):
            self.best = {
                "note": NOTE,
                "selected_on": "test",
                "step": step,
                "metric": self._metric,
                "value": value,
                "global": on_test["global"],
                "reranked": on_test["reranked"],
            }
            if jax.process_index() == 0:
                write_text(self._path, json.dumps(self.best, indent=2) + "\n")
        return results
