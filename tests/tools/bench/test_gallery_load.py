"""A generated gallery is a gallery, and its load test tells what it measured."""

import json
import sys

import numpy as np

import cada_jax
from tools.bench import gallery_load, generated_gallery


def test_a_generated_gallery_is_searched_re_ranked_and_timed(tmp_path, monkeypatch, capsys):
    db = tmp_path / "g.db"
    assert generated_gallery.main([f"--db={db}", "--count=20"]) == 0
    retriever = cada_jax.load_model("pretrained:synthetic")
    with cada_jax.Gallery.open(db, retriever) as gallery:
        assert len(gallery) == 20 and np.isfinite(gallery.tokens_of(gallery.pictures())).all()
        assert len({hit.name for hit in retriever.search("a man", gallery, k=20, rerank=3)}) == 20
    flags = [f"--db={db}", "--clients", "1", "2", "--seconds=0.01"]
    monkeypatch.setattr(sys, "argv", ["gallery_load", *flags])
    gallery_load.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [row["clients"] for row in rows] == [1, 2] and rows[0]["pictures"] == 20
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in rows)
    assert generated_gallery.main([f"--db={db}", "--count=20"]) == 2  # it is there already
