"""The loop over steps.

A run is a pure function of its configuration: the batch, the augmentation and the masks of a step
depend on the seed and the step alone, so that a run which was stopped anywhere and is continued by
the same command ends with the numbers of the run that was not.
"""

import collections
import math
import pathlib
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from clu import metric_writers
from jax.sharding import Mesh

from cada_jax.checkpoints.run import Checkpoints
from cada_jax.common.console import StepProgress, Timers, say
from cada_jax.common.errors import DivergedError, StoppedError
from cada_jax.distributed.batch import to_global
from cada_jax.training.preemption import StopSignal
from cada_jax.training.profiling import ProfileWindow
from cada_jax.training.setup import TrainSetup
from cada_jax.training.train_step import TrainState

# Batches on their way to the devices while a step runs.
PREFETCH = 2
# What the console line shows of a step's metrics, where present.
SHOWN = ("total", "global", "match", "group", "ara")


def device_batches(batches: Iterable[dict], mesh: Mesh) -> Iterator[dict]:
    """Puts host batches on the devices, PREFETCH of them ahead of the one given out."""
    ahead = collections.deque()
    for batch in batches:
        ahead.append(to_global(mesh, batch))
        if len(ahead) > PREFETCH:
            yield ahead.popleft()
    yield from ahead


def flat_metrics(results: dict) -> dict[str, float]:
    """The figures of an evaluation: {"reranked": {"R1": 70.0}} -> {"reranked/R1": 70.0}."""
    return {
        f"{stage}/{name}": float(value)
        for stage in ("global", "reranked", "match_only")
        for name, value in results.get(stage, {}).items()
    }


class Trainer:
    """Trains, reports, saves and scores.

    Args:
      checkpoints: opened on it.
      score: (step, params) -> results on the split that chooses the best; None to choose none.
    """

    def __init__(
        self,
        setup: TrainSetup,
        root: pathlib.Path,
        checkpoints: Checkpoints,
        writer: metric_writers.MetricWriter,
        timers: Timers,
        score: Callable[[int, Any], dict] | None,
    ):
        train = setup.config.train
        self.setup = setup
        self.checkpoints = checkpoints
        self._writer = writer
        self._timers = timers
        self._score = score
        self._profile = ProfileWindow(root / "profile", train.profile_start, train.profile_steps)
        self._pending: tuple[int, dict] | None = None  # metrics not read yet
        self._window: list[dict[str, float]] = []  # metrics read since the last report

    def run(
        self, state: TrainState, batches: Callable[[int], Iterator[dict]], step_function: Callable
    ) -> TrainState:
        """Trains to the last step of the configuration.

        Args:
          state: to begin with; donated.
          batches: first step -> this process's share of the batches from there on.

        Returns:
          The last state, saved.

        Raises:
          DivergedError: a loss or the gradient is not finite; the last good state is saved.
          StoppedError: a signal came; the state is saved.
        """
        setup, train = self.setup, self.setup.config.train
        start, total = int(state.step), setup.total_steps
        self._progress = StepProgress(start, total, setup.steps_per_epoch, train.batch_size)
        if start and self._evaluates_at(start):
            self._evaluate(start, state)  # the run may have ended while it did
        if start >= total:
            return state
        key = jax.random.key(setup.config.seed)
        ahead = device_batches(batches(start), setup.network.mesh)
        try:
            with StopSignal() as stop:
                for step in range(start + 1, total + 1):
                    with self._timers("data"):
                        batch = next(ahead)
                    self._profile.before(step, self._read_pending)
                    compiling = step == start + 1
                    with self._timers("first step (compiling)" if compiling else "steps"):
                        state, metrics = step_function(state, batch, key)
                        self._read_pending()  # those of the step before, while this one runs
                        jax.tree.map(lambda x: x.copy_to_host_async(), metrics)
                        self._pending = step, metrics
                        if compiling:
                            jax.block_until_ready(metrics)
                    self._progress.tick(step)
                    self._after(step, state, stop)
        finally:
            self._profile.close()
            self._progress.close()
        return state

    def _evaluates_at(self, step: int) -> bool:
        every = self.setup.config.train.eval_every * self.setup.steps_per_epoch
        return step == self.setup.total_steps or (every > 0 and step % every == 0)

    def _after(self, step: int, state: TrainState, stop: StopSignal) -> None:
        """What is due when `step` updates are done: save, stop, score."""
        evaluating = self._evaluates_at(step)
        stopping = stop.requested(step)
        every = self.setup.config.train.checkpoint_every
        if stopping or evaluating or (every > 0 and step % every == 0):
            # Saved before it is scored, which can take long; and after its loss is read, so that
            # every state saved is a good one.
            with self._timers("steps"):
                self._read_pending()
            with self._timers("checkpoints"), self._progress.paused():
                self.checkpoints.save(step, state)
        if stopping:
            self.checkpoints.wait()
            raise StoppedError(stop.signum or signal.SIGTERM, step)
        if evaluating:
            self._evaluate(step, state)

    def _read_pending(self) -> None:
        """Reads the metrics that are waited for, stops if they are bad, reports if it is time."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not all(math.isfinite(values[name]) for name in ("total", "grad_norm")):
            raise self._diverged(step, values)
        self._window.append(values)
        if step % self.setup.config.train.log_every == 0:
            self._report(step)

    def _diverged(self, step: int, values: dict[str, float]) -> DivergedError:
        self.checkpoints.wait()
        kept = self.checkpoints.latest_step
        saved = "no step was saved before" if kept is None else f"the state of step {kept} is kept"
        listed = ", ".join(f"{name} {value:g}" for name, value in values.items())
        return DivergedError(
            f"The loss or its gradient is not finite at step {step}: {listed}.\n"
            f"The run stops; {saved}. The same command would come here again: use another "
            "--workdir with a lower config.optimizer.learning_rate, or with "
            "config.optimizer.clip_norm=1.0."
        )

    def _report(self, step: int) -> None:
        window, self._window = self._window, []
        means = {k: sum(values[k] for values in window) / len(window) for k in window[0]}
        rate = self._progress.report(step, {k: means[k] for k in SHOWN if k in means})
        scalars = {f"train/{k}": v for k, v in means.items()}
        scalars["train/learning_rate"] = float(np.asarray(self.setup.schedule(step - 1)))
        if rate:
            scalars["train/pairs_per_second"] = rate
        self._writer.write_scalars(step, scalars)

    def _evaluate(self, step: int, state: TrainState) -> None:
        """Scores the parameters, and saves them if they are to be selected and the best so far."""
        if self._score is None or self.checkpoints.best_step == step:
            return
        c = self.setup.config.eval
        with self._timers("evaluation"), self._progress.paused():
            results = self._score(step, state.params)
        figures = flat_metrics(results)
        self._writer.write_scalars(step, {f"{c.select_on}/{k}": v for k, v in figures.items()})
        value, best = figures[c.select_metric], self.checkpoints.best_info()
        if c.select == "last":
            say(f"step {step}: {c.select_metric} {value:.2f} on {c.select_on}")
            return
        better = not best or value > best["value"]
        said = "the best so far" if better else f"best {best['value']:.2f} at step {best['step']}"
        say(f"step {step}: {c.select_metric} {value:.2f} on {c.select_on}, {said}")
        if better:
            info = {
                "step": step,
                "split": c.select_on,
                "metric": c.select_metric,
                "value": value,
                "results": results,
            }
            with self._timers("checkpoints"):
                self.checkpoints.save_best(step, state.params, info)
