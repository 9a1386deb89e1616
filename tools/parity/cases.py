"""The golden cases, and one run over all that a folder holds."""

from collections.abc import Callable, Sequence

from cada_jax.common.errors import UsageError
from tools.parity import network_cases, retrieval_cases, whole_training
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
    "g_training": whole_training.compare,
}


def check_golden(
    folder: str, dtype: str, vocab: str | None = None, cases: Sequence[str] = tuple(CASES)
) -> Table:
    """Runs the cases that `folder` holds.

    Args:
      folder: with the files that `golden.FORMAT` names.
      dtype: of our activations, a key of `table.TOLERANCES`.
      vocab: vocabulary file or hub name for the captions; None: the pieces the folder holds.
      cases: some of `CASES`.

    Raises:
      UsageError: a file cannot be read, or there is nothing to compare.
    """
    golden, table = Golden(folder, dtype), Table(dtype)
    if not any(map(golden.has, CASES)):
        raise UsageError(f"--golden={folder} holds weights but no case: {FORMAT}")
    for case in cases:
        if not golden.has(case):
            table.absent(case, f"no {case}.npz in the folder")
            continue
        before = len(table.rows)
        CASES[case](golden, table, *((vocab,) if case == "e_attr" else ()))
        if len(table.rows) == before:
            raise UsageError(f"{golden.folder / case}.npz holds nothing to compare: {FORMAT}")
    return table
