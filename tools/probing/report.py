"""The measurements as tables, models side by side: for the console and as Markdown."""

from collections.abc import Callable, Sequence
from typing import Any

from tools.probing.masked_words import IMAGES
from tools.probing.negatives import METHODS, TOP

NOTHING = "–"


class Table:
    """Rows of a name and one text for each model."""

    def __init__(self, title: str, found: Sequence[dict[str, Any]]):
        self.title, self.models = title, [one["model"] for one in found]
        self._found = found
        self.rows: list[tuple[str, list[str]]] = []

    def add(self, name: str, read: Callable[[dict[str, Any]], str]) -> None:
        """Adds what `read` makes of each model's measurements; a dash where it finds none."""
        texts = []
        for one in self._found:
            try:
                texts.append(read(one))
            except (KeyError, TypeError, IndexError):
                texts.append(NOTHING)
        if any(text != NOTHING for text in texts):
            self.rows.append((name, texts))

    def markdown(self) -> str:
        """As a Markdown section."""
        head = ["", *(f"`{model}`" for model in self.models)]
        lines = [head, ["---"] * len(head), *([name, *texts] for name, texts in self.rows)]
        return "\n".join([f"## {self.title}", "", *(f"| {' | '.join(x)} |" for x in lines)])

    def plain(self) -> str:
        """As aligned columns."""
        lines = [(self.title, self.models), *self.rows]
        first = max(len(name) for name, _ in lines)
        widths = [max(len(texts[i]) for _, texts in lines) for i in range(len(self.models))]
        return "\n".join(
            "  ".join(
                [name.ljust(first), *(t.rjust(w) for t, w in zip(texts, widths, strict=True))]
            )
            for name, texts in lines
        )


def make_tables(found: Sequence[dict[str, Any]]) -> list[Table]:
    """The tables of what `tools.probe` measured, an entry for each model."""
    makers = (_gate, _worth, _masked, _negatives, _reranking, _errors, _gradients, _readout)
    return [table for table in (make(found) for make in makers) if table.rows]


def _names(found: Sequence[dict[str, Any]], *path: str) -> list[str]:
    """Names of the tables at a path of any model, in their order."""
    names: dict[str, None] = {}
    for one in found:
        table: Any = one
        for step in path:
            table = (table or {}).get(step)
        names.update(dict.fromkeys(table or ()))
    return list(names)


def _gate(found: Sequence[dict[str, Any]]) -> Table:
    table = Table("Gate: mean ± std (right image) / mean (wrong image)", found)
    layers = max((one["gate"]["layers"] for one in found if one["gate"]), default=0)
    for layer in range(layers):
        for name in _names(found, "gate", "classes"):

            def read(one: dict[str, Any], name=name, layer=layer) -> str:
                of_class = one["gate"]["classes"][name]
                own, other = of_class["right"][layer], of_class["wrong"][layer]
                return f"{own['mean']:.2f} ± {own['std']:.2f} / {other['mean']:.2f}"

            table.add(f"layer {layer}, {name}", read)

        def explained(one: dict[str, Any], layer=layer) -> str:
            return f"{100 * one['gate']['explained'][layer]:.0f} %"

        table.add(f"layer {layer}, variance between classes", explained)
        for end in ("highest", "lowest"):

            def extreme(one: dict[str, Any], layer=layer, end=end) -> str:
                return _words(one["gate"]["words"][layer][end])

            table.add(f"layer {layer}, {end}", extreme)
    return table


def _words(entries: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{entry['word']!r} {entry['mean']:.2f}" for entry in entries) or NOTHING


def _worth(found: Sequence[dict[str, Any]]) -> Table:
    table = Table("R@1 re-ranked with other gates, in percent (queries put right, wrong)", found)
    if not any(one["gate_worth"] for one in found):
        return table
    table.add("as trained", lambda one: f"{one['reranking']['R1']['reranked']:.2f}")
    for name in ("layer means", "one"):

        def read(one: dict[str, Any], name=name) -> str:
            worth = one["gate_worth"][name]
            return f"{worth['R1']:.2f} (+{worth['put_right']} −{worth['put_wrong']})"

        table.add(f"every gate {'its layer’s mean' if name == 'layer means' else '1'}", read)
    return table


def _masked(found: Sequence[dict[str, Any]]) -> Table:
    title = "Masked words, accuracy in percent: right image / wrong / none (commonest word)"
    table = Table(title, found)
    for way, text in (("trained", "masked as in training"), ("alone", "one phrase")):
        for part in ("classes", "attributes"):
            for name in _names(found, "masked_words", way, part):

                def read(one: dict[str, Any], way=way, part=part, name=name) -> str:
                    figures = one["masked_words"][way][part][name]
                    shown = " / ".join(f"{100 * figures[i]['accuracy']:.1f}" for i in IMAGES)
                    return f"{shown} ({100 * figures['guess']:.1f})"

                def same(one: dict[str, Any], way=way, part=part, name=name) -> str:
                    figures = one["masked_words"][way][part][name]
                    return " / ".join(f"{100 * figures[i]['same']:.1f}" for i in IMAGES)

                if part == "attributes" and way == "trained":
                    continue  # the same again, of fewer words
                table.add(f"{text}, {part[:-2] if part == 'classes' else 'attribute'} {name}", read)
                table.add(f"{text}, {name}, a word of the same colour", same)
    return table


def _negatives(found: Sequence[dict[str, Any]]) -> Table:
    table = Table("Negatives in batches of the configuration's size", found)
    table.add("batch", lambda one: str(one["negatives"]["batch"]))
    for name, text in (
        ("first", "probability of the nearest, %"),
        (f"first_{TOP}", f"probability of the {TOP} nearest, %"),
    ):
        table.add(text, lambda one, name=name: _percent(one["negatives"]["sampling"][name]))
    table.add("exp(entropy), persons", lambda one: f"{one['negatives']['sampling']['choices']:.1f}")
    for name in ("positive", *METHODS):
        for part, text, show in (
            ("rank", "mean rank by similarity", "{:.1f}".format),
            ("nearest", "the nearest, %", _percent),
            ("cosine", "mean cosine", "{:.3f}".format),
            ("accuracy", "match head right, %", _percent),
            ("loss", "match loss", "{:.4f}".format),
            ("fits", "caption fits it too, %", _percent),
        ):
            table.add(
                f"{name}: {text}",
                lambda one, name=name, part=part, show=show: show(one["negatives"][name][part]),
            )
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _reranking(found: Sequence[dict[str, Any]]) -> Table:
    table = Table("Re-ranking", found)
    table.add("queries", lambda one: str(one["reranking"]["queries"]))
    for name in ("similarity", "reranked"):
        table.add(f"R@1 {name}", lambda one, name=name: f"{one['reranking']['R1'][name]:.2f}")
    for name in ("stay_right", "put_right", "put_wrong", "stay_wrong"):
        text = name.replace("_", " ")
        table.add(text, lambda one, name=name: str(one["reranking"]["counts"][name]))
    table.add("no right image in the top k", lambda one: str(one["reranking"]["unreachable"]))
    table.add(
        "errors in reach by the right image's rank by similarity",
        lambda one: _counts(one["reranking"]["rank_by_similarity"]),
    )
    return table


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or NOTHING


def _differences(counts: dict[str, dict[str, int]]) -> str:
    """Errors (the reader's among them) by the number of attributes, all above two together."""
    few = {name: (c["errors"], c["reader"]) for name, c in counts.items() if int(name) <= 2}
    more = [(c["errors"], c["reader"]) for name, c in counts.items() if int(name) > 2]
    if more:
        few["more"] = (sum(errors for errors, _ in more), sum(reader for _, reader in more))
    return ", ".join(f"{name}: {both[0]} ({both[1]})" for name, both in few.items()) or NOTHING


def _errors(found: Sequence[dict[str, Any]]) -> Table:
    title = "Errors: stated and contradicted / not stated / not visible (captions that state it)"
    table = Table(title, found)
    for stage in ("similarity", "reranked"):
        for name in ("errors", "reader", "open", "recoloured"):
            text = {
                "reader": "caption contradicts the image",
                "open": "caption fits both",
                "recoloured": "the same things in other colours",
            }
            table.add(
                f"{stage}: {text.get(name, name)}",
                lambda one, stage=stage, name=name: str(one["reranking"][stage][name]),
            )
        table.add(
            f"{stage}: attributes in which the persons differ: errors (contradicted)",
            lambda one, stage=stage: _differences(one["reranking"][stage]["persons_differ"]),
        )
    for name in sorted(_names(found, "reranking", "reranked", "attributes")):

        def read(one: dict[str, Any], name=name) -> str:
            a = one["reranking"]["reranked"]["attributes"][name]
            parts = f"{a['contradicted']} / {a['unstated']} / {a['hidden']}"
            return f"{parts} ({a['stated']})"

        table.add(f"reranked: {name}", read)
    return table


def _gradients(found: Sequence[dict[str, Any]]) -> Table:
    table = Table("Norms of the gradients of the weighted losses", found)
    table.add("pairs in a batch", lambda one: str(one["gradients"]["batch"]))
    for part in _names(found, "gradients", "norms"):
        for name in _names(found, "gradients", "norms", part):

            def read(one: dict[str, Any], part=part, name=name) -> str:
                return f"{one['gradients']['norms'][part][name]:.4f}"

            table.add(f"{part}, {name.removesuffix('_weight')}", read)
    return table


def _readout(found: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        "Read from images by a linear map, %: tokens / embedding (commonest value)", found
    )

    def show(figures: dict[str, float]) -> str:
        tokens, embedding, guess = (figures[x] for x in ("tokens", "embedding", "commonest"))
        return f"{_percent(tokens)} / {_percent(embedding)} ({_percent(guess)})"

    for name in _names(found, "readout", "attributes"):
        table.add(name, lambda one, name=name: show(one["readout"]["attributes"][name]))
    table.add("mean of the attributes", lambda one: show(one["readout"]["mean"]))
    return table
