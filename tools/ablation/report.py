"""The ablation table from finished runs: figures, gains, sign tests; as JSON and as Markdown."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tools.ablation.rows import Row, compared_with
from tools.ablation.runs import Run
from tools.ablation.significance import Spread, sign_test, spread

FIGURES = ("global/R1", "reranked/R1", "reranked/mAP")
GAINED = "reranked/R1"


def read_figures(folder: pathlib.Path) -> dict[str, float]:
    """The FIGURES of a finished run, in percent; with "before/" those of its start, if scored."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    sources = {"": results, "before/": results.get("baseline") or {}}
    found = {}
    for prefix, source in sources.items():
        for name in FIGURES:
            stage, _, figure = name.partition("/")
            if stage in source:
                found[prefix + name] = float(source[stage][figure])
    return found


def read_hits(folder: pathlib.Path) -> np.ndarray:
    """Whether a right image came first for each query, after re-ranking: bool [queries].

    Queries of nobody in the gallery count as not found.
    """
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    return np.array([json.loads(line)["rank_reranked"] == 1 for line in lines], bool)


def make_table(runs: Sequence[Run], rows: Sequence[Row], failed: Sequence[Run]) -> list[dict]:
    """One entry for each row, ready for JSON.

    Args:
      runs: of all rows; those that are done are read.
      rows: the chosen ones.
      failed: runs that diverged.

    Returns:
      For each row: name, title, changes, seeds (those read), failed_seeds; if any is read also
      figures (name -> values, mean, std), same_runs_as (an earlier row of the same configuration,
      or None), and against, gain (of GAINED, in points, over the seeds that both have) and
      sign_test, each None where there is nothing to compare with.
    """
    broken = {run.folder for run in failed}
    done: dict[str, dict[int, pathlib.Path]] = {row.name: {} for row in rows}
    for run in runs:
        if run.done:
            done[run.row.name][run.seed] = run.folder
    entries = []
    for row in rows:
        own = done[row.name]
        entry: dict[str, Any] = {
            "name": row.name,
            "title": row.title,
            "changes": row.changes,
            "seeds": sorted(own),
            "failed_seeds": [r.seed for r in runs if r.row == row and r.folder in broken],
        }
        entries.append(entry)
        if not own:
            continue
        read = [read_figures(own[seed]) for seed in sorted(own)]
        names = [name for name in read[0] if all(name in figures for figures in read)]
        entry["figures"] = {name: spread([f[name] for f in read])._asdict() for name in names}
        other = compared_with(row, tuple(rows))
        entry |= _compared(row, own, other, done)
    return entries


def _compared(row: Row, own: dict, other: Row | None, done: dict[str, dict]) -> dict[str, Any]:
    """How a row differs from the one before it."""
    twin = next(
        (n for n, folders in done.items() if n != row.name and folders and folders == own), None
    )
    earlier = list(done)[: list(done).index(row.name)]
    found: dict[str, Any] = {
        "same_runs_as": twin if twin in earlier else None,
        "against": other.name if other else None,
        "gain": None,
        "sign_test": None,
    }
    theirs = done[other.name] if other else {}
    both = sorted(set(own) & set(theirs))
    if not both or theirs == own:
        return found
    gains = [read_figures(own[s])[GAINED] - read_figures(theirs[s])[GAINED] for s in both]
    found["gain"] = spread(gains)._asdict()
    hits = [[read_hits(folders[s]) for s in both] for folders in (own, theirs)]
    if len({len(row) for rows in hits for row in rows}) == 1:  # the same queries
        found["sign_test"] = sign_test(*(np.stack(rows) for rows in hits))._asdict()
    return found


def markdown(entries: Sequence[dict], notes: Sequence[str]) -> str:
    """The table, and what a reader must know, a sentence each."""
    lines = [
        "| row | before | global R@1 | reranked R@1 | mAP | against | gain | better / worse | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        lines.append("| " + " | ".join(_cells(entry)) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"


def _cells(entry: dict) -> list[str]:
    title = f"{entry['title']} (`{entry['name']}`)"
    if "figures" not in entry:
        return [title, *["–"] * 7, "no finished run"]
    if entry["same_runs_as"]:
        title += f", the same runs as `{entry['same_runs_as']}`"
    if entry["failed_seeds"]:
        title += f", failed: seeds {', '.join(map(str, entry['failed_seeds']))}"
    figures = entry["figures"]
    names = ("before/reranked/R1", *FIGURES)
    cells = [title, *(_spread(figures.get(name)) for name in names)]
    test = entry["sign_test"]
    return [
        *cells,
        f"`{entry['against']}`" if entry["against"] else "–",
        _spread(entry["gain"], sign="+"),
        f"{test['better']} / {test['worse']}" if test else "–",
        _p(test["p"]) if test else "–",
    ]


def _spread(found: dict | Spread | None, sign: str = "") -> str:
    if found is None:
        return "–"
    values = found if isinstance(found, dict) else found._asdict()
    text = f"{values['mean']:{sign}.2f}"
    return text if values["std"] is None else f"{text} ± {values['std']:.2f}"


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def notes(seeds: int, date: str, machine: str) -> list[str]:
    """What the Markdown says below the table."""
    return [
        f"Seeds: {seeds}. R@1 and mAP in percent, mean ± standard deviation over the seeds; gains "
        "in points of re-ranked R@1, seed by seed.",
        "before: re-ranked R@1 of the weights that the runs start from. Without ATP nothing is "
        "re-ranked, and the global ranking stands in its place.",
        "better / worse: queries whose right image comes first under more, or under fewer, of the "
        "seeds than in the row of `against`. The rest are ties.",
        "p: exact two-sided sign test over these queries. It takes them as independent; captions "
        "of one person are not, so p is too small rather than too large.",
        f"Measured {date} on {machine}.",
    ]
