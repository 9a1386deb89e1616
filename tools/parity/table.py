"""The rows of a parity table: one quantity each, with the bound it has to keep."""

import dataclasses

import numpy as np

# Largest accepted difference, relative to the largest value of the quantity (gradients: relative
# norm per tensor). float32 is the target. bfloat16 holds 8 bits, so these bounds are measured ones,
# about three times the worst row on tests/golden (1.6e-2, 5.2e-3, 1.7e-1 and 8.6e-2).
TOLERANCES = {
    "float32": {"output": 1e-5, "loss": 1e-5, "gradient": 1e-4, "trajectory": 1e-4, "step": 3e-6},
    "bfloat16": {"output": 5e-2, "loss": 2e-2, "gradient": 5e-1, "trajectory": 2.5e-1},
}
EXACT = 0.0  # integers, orders and metrics


@dataclasses.dataclass(frozen=True)
class Row:
    """One compared quantity.

    Attributes:
      case: the group it belongs to, usually a file of the golden folder.
      quantity: its name.
      absolute: largest absolute difference; None where nothing was compared.
      relative: the difference that has to keep `tolerance`.
      tolerance: the bound; None where there is none.
      status: "pass", "FAIL", "differs" (with the reason in `note`) or "absent".
      note: what a reader should know.
    """

    case: str
    quantity: str
    absolute: float | None
    relative: float | None
    tolerance: float | None
    status: str
    note: str = ""


class Table:
    """Collects rows, each judged as it comes."""

    def __init__(self, dtype: str = "float32"):
        """Bounds are those of `dtype`, "float32" or "bfloat16"."""
        self.rows: list[Row] = []
        self.dtype = dtype

    @property
    def failed(self) -> int:
        """Number of rows that broke their bound."""
        return sum(row.status == "FAIL" for row in self.rows)

    def compare(self, case, quantity, got, wanted, kind="output", note="", scale=None):
        """Judges the largest difference relative to the largest value of `wanted` (or `scale`).

        Args:
          case: see `Row`.
          quantity: see `Row`.
          got: our array, any shape.
          wanted: the reference, the same shape.
          kind: a key of TOLERANCES; "exact" for equality; "order" for equality in float32, while
            bfloat16 may swap neighbours; "within" for at most twice `scale`.
          note: see `Row`.
          scale: what the difference is relative to, instead of the largest wanted value.
        """
        got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
        if got.shape != wanted.shape:
            note = f"shape {got.shape}, expected {wanted.shape}"
            self.rows.append(Row(case, quantity, None, None, None, "FAIL", note))
            return
        absolute = float(np.max(np.abs(got - wanted), initial=0.0))
        if kind == "order" and self.dtype != "float32" and absolute:
            share = f": {np.mean(got != wanted):.1%} of the entries" if got.ndim else ""
            self.differs(case, quantity, got, wanted, f"rounding swaps neighbours{share}")
            return
        kind = "exact" if kind == "order" else kind
        largest = np.max(np.abs(wanted), initial=0.0) if scale is None else scale
        self._judge(case, quantity, absolute, absolute / max(float(largest), 1e-30), kind, note)

    def compare_norm(self, case, quantity, got, wanted, kind="gradient", note="", scale=None):
        """Judges the norm of the difference relative to that of `wanted` (or `scale`)."""
        got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
        difference = got - wanted
        size = np.linalg.norm(wanted) if scale is None else scale
        relative = float(np.linalg.norm(difference) / max(size, 1e-30))
        self._judge(case, quantity, float(np.abs(difference).max()), relative, kind, note)

    def differs(self, case, quantity, got, wanted, note):
        """Shows a difference whose reason is known and meant, so that no bound applies."""
        got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
        absolute = float(np.max(np.abs(got - wanted), initial=0.0))
        largest = float(np.max(np.abs(wanted), initial=0.0))
        relative = absolute / largest if largest else None
        self.rows.append(Row(case, quantity, absolute, relative, None, "differs", note))

    def absent(self, case, why):
        """Names a case that could not be compared."""
        self.rows.append(Row(case, "", None, None, None, "absent", why))

    def _judge(self, case, quantity, absolute, relative, kind, note):
        bounds = TOLERANCES[self.dtype] | {"exact": EXACT, "within": 2.0}
        tolerance = bounds[kind]
        # Written so that a NaN fails.
        status = "pass" if relative <= tolerance else "FAIL"
        self.rows.append(Row(case, quantity, absolute, relative, tolerance, status, note))

    def __str__(self) -> str:
        header = ("case", "quantity", "max |diff|", "relative", "bound", "result", "note")
        lines = [header] + [
            (
                row.case,
                row.quantity,
                *("" if x is None else f"{x:.1e}" for x in (row.absolute, row.relative)),
                "" if row.tolerance is None else f"{row.tolerance:g}" if row.tolerance else "equal",
                row.status,
                row.note,
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        count = {s: sum(r.status == s for r in self.rows) for s in ("pass", "FAIL", "differs")}
        absent = [row.case for row in self.rows if row.status == "absent"]
        text.append(
            f"{count['pass']} pass, {count['FAIL']} fail, {count['differs']} differ as noted"
            + (f"; absent: {', '.join(absent)}" if absent else "")
        )
        return "\n".join(text)
