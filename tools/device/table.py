"""The Markdown table of the full-size training step, compiled one device after the other.

    python -m tools.device.table --folder=DIR
    python -m tools.device.table --folder=DIR --only=v5e --print_only
    python -m tools.device.table --folder=DIR --few_layers

Each row tries its settings in turn until the program fits the device. Each compilation is a process
of its own, and leaves its JSON in the folder: started again, the command goes on where it stopped.
Delete a file to compile it anew. A full-size program takes minutes.

With --few_layers a program that was not compiled whole is made up from programs of two and of four
layers: memory, time, FLOP and bytes sent grow by the same amount with each layer, because the
layers are alike. The compiler may do something else once memory runs short. The table says which
rows are such.
"""

import functools
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cada_jax.common.command_line import run_command
from tools.arguments import Parser, folder
from tools.device.chips import GIB
from tools.device.estimate import WAITING
from tools.device.topology import find_target

CONFIGS = {"ViT-B": "rstp", "ViT-L": "rstp:large"}
LAYERS = {"ViT-B": (12, 12), "ViT-L": (24, 12)}  # of the image encoder, of the text side
REMATS = tuple((f"model.remat={how}",) for how in ("off", "light", "full"))
PARTS = tuple((f"train.accumulation={n}",) for n in (1, 2, 4, 8))
# Of 120 pairs where it can be: a batch is a multiple of the devices that share it.
DEVICES = {
    "v5e:2x4": REMATS,
    "v6e:2x4": REMATS,
    "v5p:2x2x4": tuple(("train.batch_size=128", *remat) for remat in REMATS),
    "2xv5e:2x4": tuple(("train.batch_size=128", *remat) for remat in REMATS),
    "h100": REMATS,
    "h100:8": REMATS,
    "h200": REMATS,
    "b200": REMATS,
    "a100": REMATS,
    "rtx4090": PARTS,
    "rtx3090": PARTS,
    "l4": PARTS,
}
FEW = ((2, 2), (4, 4))  # layers (image, text) of the programs that others are made up from
_GROWS = (("memory", "inputs"), ("memory", "running"), ("estimate", "ms"), ("ideal_ms",))


class Row(NamedTuple):
    """One line of the table; `layers` (image, text) where they are not the configuration's."""

    model: str
    device: str
    layers: tuple[int, int] | None = None

    def command(self, settings: Sequence[str]) -> list[str]:
        """Arguments of `tools.device.compile`."""
        start = [f"--device={self.device}", f"--config={CONFIGS[self.model]}"]
        names = ("model.image.depth", "model.text.depth")
        depths = zip(names, self.layers or (), strict=False)
        depths = [f"{name}={number}" for name, number in depths]
        return [*start, "--set", "model.dtype=bfloat16", *settings, *depths]

    def file(self, place: pathlib.Path, settings: Sequence[str]) -> pathlib.Path:
        """Where its JSON is kept."""
        words = [self.model, self.device, *settings, *map(str, self.layers or ())]
        return place / ("_".join(words).replace(":", "-") + ".json")


def rows(only: str = "") -> list[Row]:
    """Every row whose model or device contains the text `only`."""
    every = (Row(name, device) for name in CONFIGS for device in DEVICES)
    return [row for row in every if only in f"{row.model} {row.device}"]


def kept(row: Row, settings: Sequence[str], place: pathlib.Path) -> dict[str, Any] | None:
    """What `compile_row` left; None where there is nothing yet."""
    file = row.file(place, settings)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def compile_row(row: Row, settings: Sequence[str], place: pathlib.Path) -> dict[str, Any] | None:
    """What `tools.device.compile` reports, kept in `place`; None where it failed."""
    found = kept(row, settings, place)
    if found is not None:
        return found
    command = [sys.executable, "-m", "tools.device.compile", *row.command(settings), "--json"]
    print(" ".join(command[3:]), file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        print(f"{row.model} on {row.device}: {last}", file=sys.stderr)
        return None
    [found] = json.loads(done.stdout)
    file = row.file(place, settings)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1), encoding="utf-8")
    part.replace(file)
    return found


def from_few_layers(
    row: Row, settings: Sequence[str], place: pathlib.Path, get: Callable
) -> dict[str, Any] | None:
    """The report of the whole program if `place` has it, else one made up; `get` of few layers."""
    whole = kept(row, settings, place)
    if whole is not None:
        return whole
    image, text = LAYERS[row.model]
    few = FEW if image == text else (*FEW[:1], (FEW[1][0], FEW[0][1]), (FEW[0][0], FEW[1][1]))
    reports = [get(row._replace(layers=layers), settings, place) for layers in few]
    missing = [report for report in reports if report is None]
    refused = [report for report in reports if report and report["memory"]["refused"]]
    if missing or refused:
        return None if missing else refused[0]
    return carry_on(reports, (image,) if image == text else (image, text), find_target(row.device))


def carry_on(reports: Sequence[dict], layers: Sequence[int], target: Any) -> dict[str, Any]:
    """The report of a network of so many layers.

    Args:
      reports: of two layers each, then of four each, or of four in one part and in the other.
      layers: of both parts if they are alike, else of each.
      target: the devices.
    """
    first, *others = (json.loads(json.dumps(report)) for report in reports)
    steps = [(number - FEW[0][0]) / (FEW[1][0] - FEW[0][0]) for number in layers]

    def grown(get: Callable[[dict], float]) -> float:
        added = (s * (get(o) - get(first)) for s, o in zip(steps, others, strict=True))
        return get(first) + sum(added)

    rate = first["estimate"]["share_of_product"] * first["estimate"]["ms"] / first["ideal_ms"]
    values = {path: grown(functools.partial(_at, path=path)) for path in _GROWS}
    for *path, name in (("collective_bytes",), ("estimate", "kinds_ms")):
        kinds = sorted({kind for report in reports for kind in _at(report, (*path, name))})
        _at(first, path)[name] = {
            kind: grown(lambda r, at=(*path, name), kind=kind: _at(r, at).get(kind, 0.0))
            for kind in kinds
        }
    for (*path, name), value in values.items():
        _at(first, path)[name] = value
    first["estimate"]["share_of_product"] = rate * first["ideal_ms"] / first["estimate"]["ms"]
    total = first["memory"]["inputs"] + first["memory"]["running"]
    return first | {"fits": total <= target.chip.usable * target.chip.memory, "made_up": True}


def _at(report: dict, path: Sequence[str]) -> Any:
    value: Any = report
    for name in path:
        value = value[name]
    return value


def first_that_fits(
    row: Row, place: pathlib.Path, get: Callable
) -> tuple[Sequence[str], dict[str, Any]] | None:
    """(settings, report) of the first that fits, else of the last; None without any report."""
    last = None
    for settings in DEVICES[row.device]:
        found = get(row, settings, place)
        if found is None:
            return last
        last = settings, found
        if found["fits"]:
            break
    return last


HEAD = ("model", "devices", "batch", "compiled", "GiB, state + while it runs", "fits", "estimate")
HEAD = (*HEAD, "of it waiting", "ideal", "share of a product's rate", "MB sent", "command")


def line(row: Row, settings: Sequence[str], found: dict[str, Any]) -> str:
    """One line of the Markdown table."""
    memory, estimate = found["memory"], found["estimate"]
    size = f"{memory['inputs'] / GIB:.1f} + {memory['running'] / GIB:.1f}"
    if memory["refused"]:
        size = f"refused, {memory['needed'] / GIB:.1f}"
    waiting = estimate["kinds_ms"].get(WAITING, 0.0) if estimate else 0.0
    cells = [
        row.model,
        f"{row.device}, {found['chip']} x {found['devices']}",
        f"{found['items']:.0f}",
        "2 and 4 layers" if "made_up" in found else "whole",
        size,
        "yes" if found["fits"] else "no",
        f"{estimate['ms']:.0f} ms" if estimate else "none",
        f"{waiting:.1f} ms",
        f"{found['ideal_ms']:.0f} ms",
        f"{estimate['share_of_product']:.0%}" if estimate else "",
        f"{sum(found['collective_bytes'].values()) / 1e6:,.0f}",
        f"`python -m tools.device.compile {' '.join(row.command(settings))}`",
    ]
    return f"| {' | '.join(cells)} |"


def run(argv: Sequence[str] | None) -> int:
    """Compiles what is missing and prints the table; returns 1 if a row is missing, else 0."""
    parser = Parser("tools.device.table", __doc__)
    parser.add_argument("--folder", type=folder, required=True, help="for the JSON of each row")
    parser.add_argument("--only", default="", help="rows whose model or device has this text")
    parser.add_argument("--few_layers", action="store_true", help="of rows not compiled whole")
    parser.add_argument("--print_only", action="store_true", help="compile nothing")
    flags = parser.flags(argv)
    chosen, found = rows(flags.only), []
    flags.folder.mkdir(parents=True, exist_ok=True)
    get: Any = kept if flags.print_only else compile_row
    if flags.few_layers:
        get = functools.partial(from_few_layers, get=get)
    for row in chosen:
        best = first_that_fits(row, flags.folder, get)
        if best is not None:
            found.append(line(row, *best))
    print("\n".join([f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *found]))
    return int(len(found) < len(chosen))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
