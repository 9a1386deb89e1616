"""In place of training: what a run leaves."""

import json

from cada_jax.config import to_json


def fake_start(found, started):
    """In place of training: writes what a run leaves; `found` (run) -> ranks of its queries."""

    def start(run):
        started.append(run.folder.name)
        outcome = found(run)
        if isinstance(outcome, int):
            return outcome
        leave(run, outcome)
        return 0

    return start


def leave(run, ranks):
    run.folder.mkdir(parents=True)
    (run.folder / "config.json").write_text(to_json(run.config))
    share = 100 * sum(rank == 1 for rank in ranks) / len(ranks)
    figures = {"R1": share, "mAP": share / 2}
    results = {
        "global": figures,
        "reranked": figures,
        "baseline": {"reranked": {"R1": 1, "mAP": 2}},
    }
    lines = [json.dumps({"rank_reranked": rank}) for rank in ranks]
    (run.folder / "queries.jsonl").write_text("\n".join(lines) + "\n")
    (run.folder / "results.json").write_text(json.dumps(results))


def right(run):
    return [1, 1, 2, None]
