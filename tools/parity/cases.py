"""The golden cases, and one run over all that a folder holds."""

from collections.abc import Callable

from cada_jax.common.errors import UsageError
from tools.parity import network_cases, retrieval_cases
from tools.parity.golden import FORMAT, Golden
from tools.parity.table import Table

CASES: dict[str, Callable] = {
    "a_forward": network_cases.forward,
    "a_posembed": network_cases.positions,
    "b_losses": network_cases.loss_values,
    "b_degenerate": network_cases.degenerate,
    "b_hardneg": network_cases.hard_negatives,
    "c_train": network_cases.training,
    "d_eval": retrieval_cases.evaluation,
    "d_metrics": retrieval_cases.metrics,
    "e_attr": retrieval_cases.attributes,
    "f_world2": retrieval_cases.two_processes,
}


def check_golden(folder: str, dtype: str, vocab: str | None = None) -> Table:
    """Runs every case that `folder` holds.

    Args:
      folder: with the files that `golden.FORMAT` names.
      dtype: of our activations, a key of `table.TOLERANCES`.
      vocab: vocabulary file or hub name for the captions; None: the pieces the folder holds.

    Raises:
      MissingFileError: the folder holds no weights, or no case.
      UsageError: a file cannot be read, or its numbers do not have the form of its case.
    """
    return run_cases(Golden(folder, dtype), Table(dtype), vocab)


def run_cases(golden: Golden, table: Table, vocab: str | None = None) -> Table:
    """Adds the rows of every case that the folder of `golden` holds to `table`, and returns it.

    Raises:
      UsageError: see `check_golden`.
    """
    if not any(map(golden.has, CASES)):
        raise UsageError(f"--golden={golden.folder} holds weights but no case: {FORMAT}")
    for case, compare in CASES.items():
        if not golden.has(case):
            table.absent(case, f"no {case}.npz in the folder")
            continue
        extra = (vocab,) if case == "e_attr" else ()
        before = len(table.rows)
        try:
            compare(golden, table, *extra)
        except UsageError:
            raise
        except Exception as err:  # KeyError, or what NumPy and JAX raise for shapes that differ
            raise UsageError(
                f"{golden.folder / case}.npz, with its .json, has not the form of its case: "
                f"{describe(err)}. Get the folder anew, or see --traceback"
            ) from err
        if len(table.rows) == before:
            raise UsageError(f"{golden.folder / case}.npz holds nothing to compare: {FORMAT}")
    return table


def describe(err: Exception) -> str:
    """The kind and the first line of an exception."""
    text = str(err).strip()
    if isinstance(err, KeyError):
        return f"{text} is missing"
    return f"{type(err).__name__}: {text.splitlines()[0]}" if text else type(err).__name__
