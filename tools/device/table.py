"""The Markdown table of the full-size programs, compiled one after the other, row by row.

    python -m tools.device.table --folder=DIR
    python -m tools.device.table --folder=DIR --only=v5e --print_only
    python -m tools.device.table --folder=DIR --few_layers

Each row tries `model.remat` off, light and full in turn, until the program fits the chip. Each
compilation is a process of its own, and leaves its JSON in the folder: started again, the command
goes on where it stopped. Delete a file to compile it anew. A full-size program takes minutes.

With --few_layers a program that was not compiled whole is compiled with two and with four layers,
and what a layer adds is added for the rest: see `few_layers`. The table says which rows are such.
"""

import argparse
import functools
import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from cada_jax.common.command_line import run_command
from tools.arguments import Parser, folder
from tools.device import few_layers
from tools.device.chips import GIB
from tools.device.topology import find_target

REMATS = ("off", "light", "full")
CONFIGS = {"ViT-B": "rstp", "ViT-L": "rstp:large"}
LAYERS = {"ViT-B": (12, 12), "ViT-L": (24, 12)}  # of the image encoder, of the text side
DEVICES = ("v5e:2x4", "v5p:2x2x1", "v5p:2x2x4", "v6e:2x4", "2xv5e:2x4", "h100", "h200")
# Of 120 where it can be: a batch is a multiple of the devices that share it, and 120 is not of 16.
BATCHES = {"v5p:2x2x4": 128, "2xv5e:2x4": 128}


class Row(NamedTuple):
    """One line of the table: a model's name, its configuration, the devices, and its layers.

    `layers` are those of the image encoder and of the text side; None for all.
    """

    model: str
    config: str
    device: str
    layers: tuple[int, int] | None = None

    def settings(self, remat: str) -> list[str]:
        """Changes of the configuration."""
        batch = BATCHES.get(self.device)
        size = [f"train.batch_size={batch}"] if batch else []
        depths: list[str] = []
        if self.layers is not None:
            names = ("model.image.depth", "model.text.depth")
            depths = [f"{name}={n}" for name, n in zip(names, self.layers, strict=True)]
        return ["model.dtype=bfloat16", f"model.remat={remat}", *size, *depths]

    def command(self, remat: str) -> list[str]:
        """Arguments of `tools.device.compile`."""
        start = [f"--device={self.device}", f"--config={self.config}"]
        return [*start, "--set", *self.settings(remat)]

    def file(self, place: pathlib.Path, remat: str) -> pathlib.Path:
        """Where its JSON is kept."""
        layers = "_{}_{}".format(*self.layers) if self.layers else ""
        return place / f"{self.model}_{self.device.replace(':', '-')}_{remat}{layers}.json"


def rows(only: str = "") -> list[Row]:
    """Every row whose model or device contains the text `only`."""
    every = (Row(name, config, d) for name, config in CONFIGS.items() for d in DEVICES)
    return [row for row in every if only in f"{row.model} {row.device}"]


def compile_row(row: Row, remat: str, place: pathlib.Path) -> dict[str, Any] | None:
    """What `tools.device.compile` reports, kept in `place`; None where it failed."""
    file = row.file(place, remat)
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "tools.device.compile", *row.command(remat), "--json"]
    layers = " with {} and {} layers".format(*row.layers) if row.layers else ""
    what = f"{row.model}{layers} on {row.device}, remat {remat}"
    print(f"{what} ...", file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        print(f"{row.model} on {row.device}: {last}", file=sys.stderr)
        return None
    [found] = json.loads(done.stdout)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1), encoding="utf-8")
    part.replace(file)
    return found


def kept(row: Row, remat: str, place: pathlib.Path) -> dict[str, Any] | None:
    """What `compile_row` left; None where there is nothing yet."""
    file = row.file(place, remat)
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def from_few_layers(row: Row, remat: str, place: pathlib.Path, get: Any) -> dict[str, Any] | None:
    """The report of the whole program if `place` has it, else one from programs of a few layers.

    Args:
      row: to look up.
      remat: one of `REMATS`.
      place: folder of the reports.
      get: `compile_row` or `kept`, for the programs of a few layers.
    """
    whole = kept(row, remat, place)
    if whole is not None:
        return whole
    layers = LAYERS[row.model]
    reports = []
    for depths in few_layers.depths(*layers):
        report = get(row._replace(layers=depths), remat, place)
        if report is None:
            return None
        reports.append(report)
    chip = find_target(row.device).chip
    usable = chip.usable * chip.memory if chip else 0.0
    return few_layers.carry_on(reports, *layers, usable)


def smallest(row: Row, place: pathlib.Path, get: Any) -> tuple[str, dict[str, Any]] | None:
    """(remat, report) of the first setting that fits, else of the last; None without any report.

    Args:
      row: to look up.
      place: folder of the reports.
      get: `compile_row` or `kept`.
    """
    last = None
    for remat in REMATS:
        found = get(row, remat, place)
        if found is None:
            return last
        last = remat, found
        if found["fits"]:
            break
    return last


def _memory(found: dict[str, Any]) -> str:
    memory = found["memory"]
    if memory["refused"]:
        return f"refused, {memory['needed'] / GIB:.1f}" if memory["needed"] else "refused"
    return f"{memory['inputs'] / GIB:.1f} + {memory['running'] / GIB:.1f}"


def line(row: Row, remat: str, found: dict[str, Any]) -> str:
    """One line of the Markdown table."""
    estimate, fits = found["estimate"], "yes" if found["fits"] else "no"
    time = f"{estimate['ms']:.0f} ms" if estimate else "no estimate"
    share = f"{estimate['share_of_product']:.0%}" if estimate else ""
    sent = sum(found["collective_bytes"].values()) / 1e6
    command = f"`python -m tools.device.compile {' '.join(row.command(remat))}`"
    cells = [
        row.model,
        f"{row.device}, {found['chip']} x {found['devices']}",
        f"{found['items']:.0f}",
        remat,
        "2 and 4 layers" if "layers_compiled" in found else "whole",
        _memory(found),
        fits,
        time,
        f"{found['ideal_ms']:.0f} ms",
        share,
        f"{sent:,.0f}",
        command,
    ]
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| model | devices | batch | `remat` | compiled | GiB a device, state + while it runs | fits "
    "| estimate | ideal | share of a product's rate | MB sent | command |\n" + "|---" * 12 + "|"
)


def run(argv: Sequence[str] | None) -> int:
    """Compiles what is missing and prints the table; returns 1 if a row is missing, else 0."""
    parser = Parser("tools.device.table", __doc__)
    add_flags(parser)
    flags = parser.flags(argv)
    chosen = rows(flags.only)
    if not chosen:
        parser.error(f"--only={flags.only}: no row has that; models and devices: {_names()}")
    flags.folder.mkdir(parents=True, exist_ok=True)
    found = []
    for row in chosen:
        get: Any = kept if flags.print_only else compile_row
        if flags.few_layers:
            get = functools.partial(from_few_layers, get=get)
        best = smallest(row, flags.folder, get)
        if best is not None:
            found.append(line(row, *best))
    print("\n".join([HEAD, *found]))
    return int(len(found) < len(chosen))


def _names() -> str:
    return ", ".join((*CONFIGS, *DEVICES))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("--folder", type=folder, required=True, help="for the JSON of each row")
    parser.add_argument("--only", default="", help="rows whose model or device has this text")
    parser.add_argument("--few_layers", action="store_true", help="of rows not compiled whole")
    parser.add_argument("--print_only", action="store_true", help="compile nothing")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
