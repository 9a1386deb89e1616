"""What each part of the method is worth: variants x seeds, and a table.

    python -m tools.ablate --out=runs/ablation --jobs=2
    python -m tools.ablate --out=/tmp/try --config=synthetic:tiny --rows=global,atp --steps=4

Every row is trained and scored once for each seed. Each run has a process and a workdir of its own
below OUT/runs. --jobs=N has N of them go on at a time, each on its share of the CPUs. The same
command continues: runs that are done are not run again, and one that was stopped goes on where it
was. FIELD=VALUE after --set changes all rows. OUT/table.md and table.json have means, standard
deviations, gains over the row before and a sign test over the queries. `tensorboard
--logdir=OUT/runs` shows the learning curves. The exit code is 1 if a run diverged; the table then
has the others. A row that only scores otherwise (mirror) takes what another row has trained, if
that is done.

All runs start from the same weights, the configuration's init_from or --init. Those of the default,
pretrained:matched, have encoders and decoders that were trained together, without the gate. The
start is not scored (eval.baseline).
"""

import argparse
import contextlib
import datetime
import json
import pathlib
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from cada_jax.common.files import write_text
from cada_jax.config import apply_overrides, load_config, to_json, validate
from tools import config_file
from tools.ablation import report, rows, runs
from tools.ablation.processes import Processes, cpu_shares, run_all
from tools.arguments import Parser, command, folder
from tools.bench.report import processor


def read_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = Parser("tools.ablate", __doc__)
    add = parser.add_argument
    add("--config", default="synthetic:crowd", help="as for cada_jax.main (default: %(default)s)")
    add("--out", required=True, type=folder, help="folder of all runs and of the table")
    add("--seeds", type=int, default=3, help="runs of each row (default: %(default)s)")
    add("--jobs", type=int, default=1, help="runs at a time (default: %(default)s)")
    add("--rows", default="", help=f"some of {','.join(rows.BY_NAME)} (default: all)")
    add("--steps", type=int, help="steps of a run, to try things")
    add("--init", metavar="MODEL", help="weights that all runs start from, as config.init_from")
    add("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="changes of all rows")
    return parser.flags(argv)


def read_base(flags: argparse.Namespace) -> tuple[ConfigDict, dict]:
    """The configuration that all rows share, and what it changes in the file's.

    Raises:
      UsageError: a field does not exist or does not allow its value, or the table needs another.
    """
    changes = config_file.parse_changes(flags.set)
    for name in ("seed", "eval.save_queries"):
        if name in changes:
            raise UsageError(f"--set {name}: this tool sets it itself; leave it out")
    changes["eval.save_queries"] = True
    changes.setdefault("eval.baseline", False)
    if flags.steps:
        changes["train.max_steps"] = flags.steps
    if flags.init is not None:
        changes["init_from"] = flags.init
    base = load_config(flags.config)
    apply_overrides(base, changes)
    validate(base)
    return base, changes


def write_report(out: pathlib.Path, base: ConfigDict, entries: list[dict], seeds: int) -> None:
    """Writes table.json and table.md, and prints the table."""
    date, machine = str(datetime.date.today()), processor()
    text = report.markdown(entries, report.notes(seeds, date, machine))
    content = {
        "date": date,
        "machine": machine,
        "config": json.loads(to_json(base)),
        "rows": entries,
    }
    write_text(out / "table.json", json.dumps(content, indent=2) + "\n")
    write_text(out / "table.md", text)
    print(text, end="")


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Lets SIGTERM end the run that is on its way too, which saves its state."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def ablate(argv: Sequence[str] | None) -> int:
    """Runs what is not done, writes the table; returns the exit code."""
    flags = read_flags(argv)
    chosen = rows.choose(flags.rows)
    base, changes = read_base(flags)
    shares = cpu_shares(flags.jobs)
    planned = runs.plan(base, chosen, flags.seeds, flags.out)
    runs.claim(flags.out, base, planned)
    processes = Processes()

    def start(run: runs.Run) -> int:
        runs.copy_trained(run, planned)
        return processes.run(runs.command(run, flags.config, changes), run.log)

    with sigterm_raises():
        failed = run_all(planned, start, shares, processes.end)
    write_report(flags.out, base, report.make_table(planned, chosen, failed), flags.seeds)
    print(f"Written: {flags.out / 'table.md'}, table.json", file=sys.stderr)
    return 1 if failed else 0


main = command(ablate)

if __name__ == "__main__":
    sys.exit(main())
