"""A side of `tools.bench.versions`, run in a process of its own, by the modules of any checkout.

It compiles, then does its work once for every line it is sent.
"""

import importlib
import json
import sys
import time
from typing import Any, NamedTuple


class Task(NamedTuple):
    """What a side does.

    Attributes:
      root: the checkout.
      torch: whether PyTorch does it.
      work: "step" or "rerank".
      config: configuration file.
      changes: field -> value, on top of it.
      rows: images, and texts, of a re-ranking.
    """

    root: str
    torch: bool
    work: str
    config: str
    changes: dict[str, Any]
    rows: int


def serve(task: Task) -> None:
    """Answers every line with [wall, cpu] seconds; the first answer is of compiling."""
    from cada_jax.config import load_config

    config = load_config(task.config)
    changes = {k: tuple(v) if isinstance(v, list) else v for k, v in task.changes.items()}
    with config.ignore_type():
        config.update_from_flattened_dict(changes)
    programs = _programs(task)
    start = time.perf_counter(), time.process_time()
    if task.work == "step":
        run, _ = programs.compiled_step(config)
    else:
        run, _ = programs.reranking(config, config.eval.mirror, task.rows)
    _tell(start)
    for _ in sys.stdin:
        start = time.perf_counter(), time.process_time()
        run()
        _tell(start)


def _programs(task: Task) -> Any:
    """The module of that checkout with the two programs."""
    if task.torch:
        return importlib.import_module("tools.bench.theirs")
    _keep_memory()
    try:
        return importlib.import_module("tools.bench.programs")
    except ImportError:  # a version before 2026-12-01
        return importlib.import_module("tools.bench.addons")


def _keep_memory() -> None:
    """As the `cada_jax.main` of the version does."""
    try:
        importlib.import_module("cada_jax.common.kept_memory").keep_memory()
        return
    except ImportError:  # an older version
        pass
    try:
        older = importlib.import_module("cada_jax.common.huge_pages")
    except ImportError:  # a still older one
        return
    # Versions up to 2026-11-27 had "restart_with_huge_pages" alone.
    for name in ("restart_with_huge_pages", "restart_with_settings", "run_where_memory_is_kept"):
        if hasattr(older, name):
            getattr(older, name)()


def _tell(start: tuple[float, float]) -> None:
    print(json.dumps([time.perf_counter() - start[0], time.process_time() - start[1]]), flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: the checkout's own modules are to be found
    serve(Task(*json.loads(sys.argv[1])))
