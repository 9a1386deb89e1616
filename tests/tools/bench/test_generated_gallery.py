"""A generated gallery is a gallery."""

import numpy as np

import cada_jax
from tools.bench import generated_gallery


def test_a_generated_gallery_is_searched_and_re_ranked(tmp_path):
    db = tmp_path / "g.db"
    assert generated_gallery.main([f"--db={db}", "--count=20"]) == 0
    retriever = cada_jax.load_model("pretrained:synthetic")
    with cada_jax.Gallery.open(db, retriever) as gallery:
        assert len(gallery) == 20 and np.isfinite(gallery.tokens_of(gallery.pictures())).all()
        assert len({hit.name for hit in retriever.search("a man", gallery, k=20, rerank=3)}) == 20
    assert generated_gallery.main([f"--db={db}", "--count=20"]) == 2  # it is there already
