"""Checkpoints of a run, and the exported model folder.

Written with Orbax's `CheckpointManager` and `StandardCheckpointer`, the API that Orbax calls V0,
and with nothing of its successor. The successor is imported as `orbax.checkpoint.experimental.v1`
up to at least 0.12.8, has renamed its functions within the 0.12 releases, and its `Checkpointer`
is a shell around the V0 manager; V0 has kept its names since 0.5 and v1 reads its files. So V0
is what works unchanged on every release we allow.

A checkpoint appears under its name only when it is whole: Orbax writes into a folder with another
name and renames it, and the model folder is made the same way. A killed run therefore leaves
either a whole checkpoint or a folder that nothing here looks at.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp

from cada_jax.checkpoints import digest_item, digests, stored
from cada_jax.checkpoints.local_path import LocalPath
from cada_jax.common import log_file
from cada_jax.common.errors import NoRoomError, UsageError
from cada_jax.distributed import processes


def _manager(folder: pathlib.Path, item: str, keep: int | None, read_only: bool):
    if not read_only:
        if jax.process_index() == 0:
            folder.mkdir(parents=True, exist_ok=True)
        processes.sync(str(folder))
    return ocp.CheckpointManager(
        LocalPath(folder),
        item_handlers={
            item: ocp.StandardCheckpointHandler(),
            "info": ocp.JsonCheckpointHandler(),
            digest_item.ITEM: digest_item.DigestHandler(),
        },
        options=ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else keep,  # its own read_only warns at every start
            create=False,
            # What a killed run left half written. Never while reading: another process may be
            # writing it right now.
            cleanup_tmp_directories=not read_only,
            # Or two managers that write at the same time meet at each other's barriers.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                barrier_sync_key_prefix=folder.name
            ),
        ),
    )


def _open(manager: ocp.CheckpointManager | None) -> ocp.CheckpointManager:
    if manager is None:
        raise ValueError("these checkpoints are read only, and nothing is saved there")
    return manager


def _newest(manager: ocp.CheckpointManager | None) -> tuple[ocp.CheckpointManager, int]:
    """A manager with its newest step that is whole; ValueError where there is none."""
    manager = _open(manager)
    step = manager.latest_step()
    if step is None:
        raise ValueError(f"{manager.directory} holds no whole checkpoint")
    return manager, step


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
        if keep < 1:
            raise UsageError(
                f"config.train.keep_checkpoints is {keep}; expected 1 or more, or the run could "
                "not be continued."
            )
        self._root = root = pathlib.Path(workdir)
        self._provenance = dict(provenance or {})
        self._closed = False
        self._states = self._best = None
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(log_file.quiet_libraries(root))
        try:
            if not read_only or (root / "checkpoints").is_dir():
                self._states = _manager(root / "checkpoints", "state", keep, read_only)
            if not read_only or (root / "best").is_dir():
                self._best = _manager(root / "best", "params", 1, read_only)
        except BaseException as e:
            self._quiet.close()
            if isinstance(e, UsageError) or not isinstance(e, Exception):
                raise
            folder = root / ("checkpoints" if self._states is None else "best")
            raise stored.unreadable(stored.unreadable_step(folder), e, root) from e

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind and issubclass(kind, jax.errors.JaxRuntimeError) and jax.process_count() > 1:
            return  # another process may be gone, and a save under way would wait for it
        try:
            self.close()
        except Exception:
            # What is on its way already says more than that writing failed again.
            if kind is None:
                raise

    @property
    def latest_step(self) -> int | None:
        """The newest step whose training state is whole, or None."""
        return self._states.latest_step() if self._states else None

    @property
    def best_step(self) -> int | None:
        """The step of the best parameters, or None before the first evaluation."""
        return self._best.latest_step() if self._best else None

    def best_info(self) -> dict:
        """The `info` given to `save_best` with the best parameters; {} if there are none.

        Raises:
          UsageError: it is damaged.
        """
        if self.best_step is None:
            return {}
        folder = stored.step_folder(_open(self._best), self.best_step)
        kept = stored.stored_digests(folder, self._root)
        try:
            return digest_item.read_info(folder, kept)
        except ValueError as e:
            raise stored.unreadable(folder, str(e)) from e

    def save(self, step: int, state: Any) -> None:
        """Saves a training state under `step`, unless one is there. Old ones beyond `keep` go."""
        with self._explained():
            # So that whoever continues from this step finds every best parameters chosen before it.
            _open(self._best).wait_until_finished()
            states = _open(self._states)
            if step not in states.all_steps():
                digest = digest_item.DigestSave(digests.Parts(state), self._provenance)
                args = ocp.args.Composite(state=ocp.args.StandardSave(state), digests=digest)
                states.save(step, args=args, force=True)

    def save_best(self, step: int, params: Any, info: dict) -> None:
        """Saves parameters as the best, with a JSON dictionary; the best so far goes after."""
        best = _open(self._best)
        if step not in best.all_steps():
            parts, of_info = digests.Parts(params), digest_item.info_digest(info)
            args = ocp.args.Composite(
                params=ocp.args.StandardSave(params),
                info=ocp.args.JsonSave(info),
                digests=digest_item.DigestSave(parts, self._provenance, of_info),
            )
            with self._explained():
                best.save(step, args=args, force=True)

    def restore(self, state: Any) -> Any:
        """The newest training state, on the shardings of `state` (`abstract_arrays`).

        Raises:
          UsageError: it does not fit, naming every array that does not; it was saved with another
            provenance; it, or what is known of the best parameters, is damaged.
        """
        self.best_info()  # or it would be found damaged when the next best is looked for
        return stored.restore(*_newest(self._states), "state", state, self._provenance)

    def restore_best(self, params: Any) -> Any:
        """The best parameters, on the shardings of `params`; raises as `restore` does."""
        return stored.restore(*_newest(self._best), "params", params, self._provenance)

    def wait(self) -> None:
        """Blocks until everything saved is on disk."""
        with self._explained():
            for manager in filter(None, (self._states, self._best)):
                manager.wait_until_finished()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what a disk without room makes Orbax raise into one NoRoomError."""
        try:
            yield
        except UsageError:
            raise
        except Exception as e:
            reason = stored.no_room(e)
            if reason is None:
                raise
            # By what is there: the manager also counts the one that was not finished.
            steps = [int(p.name) for p in self._root.glob("checkpoints/*") if p.name.isdigit()]
            kept = f"step {max(steps)}" if steps else "none"
            log = log_file.record(self._root, e)
            said = f" What the library said is in {log}." if log else ""
            raise NoRoomError(
                f"{self._root}: a checkpoint could not be written: {reason}. Checkpoints saved "
                f"before are kept (the newest: {kept}).{said} Make room there, then the same "
                "command continues."
            ) from e

    def close(self) -> None:
        """`wait`, then releases the threads; a second call does nothing."""
        managers = [] if self._closed else filter(None, (self._states, self._best))
        self._closed = True
        try:
            with self._explained():
                for manager in managers:
                    manager.close()
        finally:
            self._quiet.close()
