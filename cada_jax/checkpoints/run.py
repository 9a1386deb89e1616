"""The checkpoints of a run: the newest training states, and the best parameters.

WORKDIR/checkpoints/STEP/{state/, info.json, cada_jax.json}
WORKDIR/best/STEP/{params/, info.json, cada_jax.json}

A checkpoint is written under another name, and renamed when its manifest is there. A killed run
leaves whole checkpoints and, at most, a folder that nothing reads and the next run removes.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp

from cada_jax.checkpoints import arrays, manifest
from cada_jax.common import log_file
from cada_jax.common.errors import UsageError
from cada_jax.common.files import read_json, write_json
from cada_jax.distributed import processes

REMEDY = (
    "Delete that folder to continue from an older checkpoint, or use another --workdir to start "
    "again."
)
INFO_FILE = "info.json"
# Folder of a kind of checkpoints -> the folder of arrays in each.
ITEMS = {"checkpoints": "state", "best": "params"}


def steps_in(folder: pathlib.Path) -> list[int]:
    """The steps whose checkpoints lie in WORKDIR/checkpoints or WORKDIR/best, in order."""
    return sorted(int(p.name) for p in folder.glob("*") if p.name.isdigit())


def check_provenance(folder: pathlib.Path, theirs: dict, ours: dict) -> None:
    """Raises UsageError if a value that both have differs, and names it."""
    differing = [key for key in sorted(ours) if key in theirs and theirs[key] != ours[key]]
    if differing:
        lines = "\n".join(f"  {key}: {theirs[key]} there, {ours[key]} now" for key in differing)
        raise UsageError(
            f"{folder} was saved by a run on other data or another vocabulary:\n{lines}\n"
            "Prepare the data as it was, or give this run a --workdir of its own."
        )


class _Kind:
    """The checkpoints of one kind, which are written in the background, one at a time.

    Every process makes the same calls. Process 0 alone names, lists and removes folders.
    """

    def __init__(self, folder: pathlib.Path, keep: int, read_only: bool):
        self._folder, self._item, self._keep = folder, ITEMS[folder.name], keep
        self._first = jax.process_index() == 0
        if not read_only and self._first:
            folder.mkdir(parents=True, exist_ok=True)
            for left_over in folder.glob(".*.partial"):
                shutil.rmtree(left_over)
        # What process 0 sees counts for all: a shared file system may show it to others later.
        self.steps = json.loads(processes.everyones(json.dumps(steps_in(folder)))[0])
        # Or two checkpointers that write at the same time meet at each other's barriers.
        multi = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=folder.name)
        self._checkpointer = ocp.StandardCheckpointer(multiprocessing_options=multi)
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._writing: concurrent.futures.Future | None = None

    def folder(self, step: int) -> pathlib.Path:
        return self._folder / str(step)

    def save(self, step: int, tree: Any, info: dict) -> None:
        """Returns when the arrays are copied; `wait` raises what goes wrong later."""
        if step in self.steps:
            return
        self.wait()
        partial = self._folder / f".{step}.partial"
        if self._first:
            partial.mkdir()
            write_json(partial / INFO_FILE, info)
        self._checkpointer.save(arrays.LocalPath(partial / self._item), tree)
        self.steps.append(step)
        self._writing = self._thread.submit(self._finish, step, partial)

    def _finish(self, step: int, partial: pathlib.Path) -> None:
        self._checkpointer.wait_until_finished()
        if not self._first:
            return
        manifest.write(partial)
        partial.rename(self.folder(step))
        for old in steps_in(self._folder)[: -self._keep]:
            going = self._folder / f".{old}.partial"  # half removed it would look like a whole one
            self.folder(old).rename(going)
            shutil.rmtree(going)

    def wait(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()
            processes.sync(str(self._folder))  # process 0 has renamed it

    def info(self, step: int) -> dict:
        """What was saved with a step, after its files were compared with their digests."""
        self.wait()
        folder = self.folder(step)
        found = manifest.damage(folder) if self._first else None
        found = processes.everyones(found or "")[0]
        if found:
            raise UsageError(f"{folder} is damaged ({found}). {REMEDY}")
        return read_json(folder / INFO_FILE, "what was saved with a checkpoint")

    def restore(self, target: Any, provenance: dict) -> Any:
        step = self.steps[-1]
        check_provenance(self.folder(step), self.info(step)["provenance"], provenance)
        return arrays.restore(self.folder(step) / self._item, target)

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._checkpointer.close()


class Checkpoints:
    """The newest training states of a run, and its best parameters.

    Saving is asynchronous: `save` returns when the arrays are copied, and the next `save`, `wait`
    or `close` raises what went wrong while writing. Every process makes the same calls.

    Args:
      workdir: the run's folder, absolute.
      keep: how many of the newest training states stay, at least 1.
      read_only: only restore; nothing is created, cleaned up or deleted.
      provenance: what the arrays are made from, as digests of the data and of the vocabulary; JSON
        values. It is stored with every checkpoint, and one that was stored with another value of
        the same name is not restored.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        keep: int = 1,
        read_only: bool = False,
        provenance: dict | None = None,
    ):
        self._root = root = pathlib.Path(workdir)
        self._provenance = dict(provenance or {})
        self._best_info: dict | None = None
        with contextlib.ExitStack() as opened:
            opened.enter_context(log_file.quiet_libraries(root))
            self._states = _Kind(root / "checkpoints", keep, read_only)
            opened.callback(self._states.close)
            self._best = _Kind(root / "best", 1, read_only)
            opened.callback(self._best.close)
            self._opened = opened.pop_all()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind and issubclass(kind, jax.errors.JaxRuntimeError) and jax.process_count() > 1:
            return  # another process may be gone, and a save under way would wait for it
        # What is on its way already says more than that writing failed again.
        with contextlib.suppress(Exception) if kind else contextlib.nullcontext():
            self.close()

    @property
    def latest_step(self) -> int | None:
        """The newest step whose training state is saved, or None."""
        return max(self._states.steps, default=None)

    @property
    def best_step(self) -> int | None:
        """The step of the best parameters, or None before the first evaluation."""
        return max(self._best.steps, default=None)

    def best_info(self) -> dict:
        """The `info` given to `save_best` with the best parameters; {} if there are none.

        Raises:
          UsageError: it is damaged.
        """
        if self.best_step is None:
            return {}
        if self._best_info is None:
            self._best_info = self._best.info(self.best_step)["info"]
        return self._best_info

    def save(self, step: int, state: Any) -> None:
        """Saves a training state under `step`, unless one is there. Old ones beyond `keep` go."""
        with self._explained():
            # So that whoever continues from this step finds every best parameters chosen before it.
            self._best.wait()
            self._states.save(step, state, {"provenance": self._provenance})

    def save_best(self, step: int, params: Any, info: dict) -> None:
        """Saves parameters as the best, with a JSON dictionary; the best so far goes after."""
        with self._explained():
            self._best.save(step, params, {"provenance": self._provenance, "info": info})
            self._best_info = info

    def restore(self, state: Any) -> Any:
        """The newest training state, on the shardings of `state` (`abstract_arrays`).

        Raises:
          UsageError: it does not fit, naming every array that does not; it was saved with another
            provenance; it, or what is known of the best parameters, is damaged.
        """
        self.best_info()  # or it would be found damaged when the next best is looked for
        return self._states.restore(state, self._provenance)

    def restore_best(self, params: Any) -> Any:
        """The best parameters, on the shardings of `params`; raises as `restore` does."""
        return self._best.restore(params, self._provenance)

    def wait(self) -> None:
        """Blocks until everything saved is on disk."""
        with self._explained():
            self._states.wait()
            self._best.wait()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what a disk without room makes Orbax raise into one NoRoomError."""
        try:
            yield
        except Exception as e:
            kept = max(steps_in(self._root / "checkpoints"), default="none")
            explained = arrays.no_room(e, f"{self._root}: the newest checkpoint is of step {kept}")
            if explained is None:
                raise
            raise explained from e

    def close(self) -> None:
        """`wait`, then releases the threads; a second call does nothing."""
        with self._explained():
            self._opened.close()
