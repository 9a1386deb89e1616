"""`hf:ORG/NAME`: downloaded, converted once, and equal to transformers' BLIP."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import cada_jax
from cada_jax.checkpoints import commands, hub, model
from cada_jax.checkpoints.weights import load_initial
from cada_jax.common.errors import UsageError
from tests.checkpoints.hub_server import COMMIT, serving

SPECIAL = {0: "[PAD]", 1: "[UNK]", 2: "[CLS]", 3: "[SEP]", 4: "[MASK]"}
WORDS = ["a", "man", "woman", "in", "red", "blue", "coat", "with", "bag"]
NAME = "hf:test/blip-itm-tiny"
CARD = "---\nlicense: bsd-3-clause\n---\n\n# A tiny one\n"


def sizes(width, mlp, layers, heads):
    """Of one side of a BLIP, as its config.json names them."""
    names = "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"
    return dict(zip(names, (width, mlp, layers, heads), strict=True))


def save_blip(transformers, folder, scale=0.1, vision=None, text=None, words=40):
    """Random weights of Hugging Face's class, saved in the layout that the hub has."""
    vision = vision or {"image_size": 32, "patch_size": 8} | sizes(32, 48, 2, 4)
    text = text or {"max_position_embeddings": 40} | sizes(24, 40, 2, 3)
    config = transformers.BlipConfig(
        vision_config=vision | {"layer_norm_eps": 1e-5},  # as published
        text_config=text | {"vocab_size": words + 2, "encoder_hidden_size": vision["hidden_size"]},
        image_text_hidden_size=16,
    )
    network = transformers.BlipForImageTextRetrieval(config).eval()
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for name, x in network.named_parameters():
            if x.ndim > 1:
                x.normal_(0, scale)
            elif "bias" in name:
                x.normal_(0, 0.02)
    network.save_pretrained(folder)
    entries = [SPECIAL.get(i) or f"[unused{i}]" for i in range(words)]
    entries[5 : 5 + len(WORDS)] = WORDS
    (folder / "vocab.txt").write_text("\n".join(entries) + "\n")
    (folder / "README.md").write_text(CARD)
    return network


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(folder of a tiny BLIP as it is published, transformers' network of it)."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("published")
    return folder, save_blip(transformers, folder)


@pytest.fixture
def served(published, tmp_path, monkeypatch):
    """A hub with the tiny model, and empty caches."""
    from huggingface_hub import constants

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        server.repositories["test/blip-itm-tiny"] = published[0]
        yield server


def their_scores(network, tokenizer, pictures, texts, length):
    """(cosines, match logits) of transformers, [texts, pictures]; [CLS] is [ENC] where they match.

    BLIP's own code begins a text that is matched with [ENC]; transformers leaves that to its user.
    """
    import torch

    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = np.stack([(np.asarray(p) / 255 - mean) / std for p in pictures])
    pixels = torch.from_numpy(np.moveaxis(pixels, -1, 1).astype(np.float32))
    cosines, logits = [], []
    with torch.no_grad():
        for text in texts:
            ids = torch.from_numpy(tokenizer.encode(text, length)[0].astype(np.int64))[None]
            mask = (ids != 0).long()
            asked = dict(pixel_values=pixels, attention_mask=mask)
            found = network(input_ids=ids, use_itm_head=False, **asked).itm_score
            cosines.append(found.numpy().reshape(-1))
            ids[:, 0] = tokenizer.special["enc"]
            rows = dict(pixel_values=pixels, attention_mask=mask.expand(len(pixels), -1))
            match = network(input_ids=ids.expand(len(pixels), -1), **rows).itm_score
            logits.append(match[:, 1].numpy())
    return np.stack(cosines), np.stack(logits)


def assert_ranks_alike(retriever, network, size, seed=0):
    """50 pictures have transformers' cosines and match logits to 1e-5, and its ranking."""
    rng = np.random.default_rng(seed)
    shades = rng.integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    pictures = [Image.fromarray(x).resize(size, Image.Resampling.NEAREST) for x in shades]
    texts = ["a man in red coat", "a woman with blue bag"]
    cosines, logits = their_scores(
        network, retriever.tokenizer, pictures, texts, retriever.config.data.max_length
    )
    gallery = retriever.encode_images(pictures)
    for text, cosine, logit in zip(texts, cosines, logits, strict=True):
        hits = retriever.search(text, gallery, k=50, rerank=50)
        order = [hit.index for hit in hits]
        np.testing.assert_allclose([h.similarity for h in hits], cosine[order], atol=1e-5)
        np.testing.assert_allclose([h.match_logit for h in hits], logit[order], atol=1e-5)
        total = logit + cosine
        assert np.all(np.diff(total[order]) <= 2e-5) and np.ptp(total) > 1e-2


def test_a_model_of_the_hub_ranks_as_transformers_does(published, served, capsys):
    retriever = cada_jax.load_model(NAME)
    said = capsys.readouterr().err
    assert f"{NAME} (revision {COMMIT[:12]})" in said and "loaded: " in said
    assert "not there: the attribute decoder" in said and "bsd-3-clause" in said
    assert_ranks_alike(retriever, published[1], (32, 32))
    found = model.load_model(NAME)
    assert found.card == {
        "domain": "photographs", "made_from": NAME, "revision": COMMIT, "licence": "bsd-3-clause"
    }  # fmt: skip
    assert "attribute_decoder" not in found.params and not found.config.loss.ara_weight


def test_it_is_converted_once_and_needs_no_network_after(served, capsys):
    folder = hub.local_model(NAME)
    asked = served.requests
    capsys.readouterr()
    assert hub.local_model(NAME) == folder and served.requests == asked
    assert capsys.readouterr().err == ""


def test_a_download_that_breaks_off_goes_on_where_it_was(served, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    served.cut = 100_000
    folder = hub.local_model(NAME)  # the client tries again by itself
    [asked] = served.ranges
    assert asked.startswith("bytes=100000-")
    assert model.load_model(folder).params


def test_the_command_converts_a_name_of_the_hub(served, tmp_path, capsys):
    assert commands.convert([NAME, str(tmp_path / "model")]) == 0
    assert "licence, by its card: bsd-3-clause" in capsys.readouterr().out
    assert model.load_model(tmp_path / "model").card["made_from"] == NAME


def test_commands_and_training_take_a_name_of_the_hub(served, tmp_path, capsys):
    from cada_jax.gallery.commands import index, maps, search

    shades = np.random.default_rng(0).integers(0, 256, (3, 40, 20, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    for i, pixels in enumerate(shades):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    flags = f"--model={NAME}", f"--db={tmp_path / 'people.db'}"
    assert index.main([*flags, f"--images={tmp_path / 'photos'}"]) == 0
    assert search.main([flags[1], "a man in red"]) == 0
    assert capsys.readouterr().out.count(".png") == 3
    drawn = f"--out={tmp_path / 'maps.npz'}"
    assert maps.main([flags[0], f"--image={tmp_path / 'photos' / '0.png'}", "a man", drawn]) == 0
    found = model.load_model(NAME)
    config = found.config.copy_and_resolve_references()
    config.init_from = NAME
    empty = jax.tree.map(jnp.zeros_like, found.params)
    filled, report = load_initial(config, empty, found.vocab_path)
    jax.tree.map(np.testing.assert_array_equal, filled, found.params)
    assert not report.new and not report.left_out


def bad_names(served, published, tmp_path):
    """(name, part of the message) of everything that cannot be used."""
    served.repositories |= {"test/clip": tmp_path / "clip", "test/secret": tmp_path / "clip"}
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text('{"model_type": "clip"}')
    served.gated.add("test/secret")
    shutil.copytree(published[0], tmp_path / "weightless")
    (tmp_path / "weightless" / "model.safetensors").unlink()
    served.repositories["test/weightless"] = tmp_path / "weightless"
    yield "hf:test/none", "no such repository"
    yield "hf:test/secret", "gated"
    yield f"{NAME}@v9", "no such revision"
    yield "hf:test/clip", "a model of type 'clip'"
    yield "hf:test/weightless", "holds none of model.safetensors"
    yield "hf:a/b/c", "expected hf:ORG/NAME"
    yield "hf:", "expected hf:ORG/NAME"


def test_what_cannot_be_used_is_one_line_and_nothing_is_kept(served, published, tmp_path):
    for name, part in bad_names(served, published, tmp_path):
        with pytest.raises(UsageError, match=part) as error:
            hub.local_model(name)
        assert str(error.value).startswith(f"{name}: ") and "\n" not in str(error.value)
    assert not [p for p in (tmp_path / "cache" / "cada_jax" / "models").glob("[!.]*")]


def test_a_hub_that_is_away_is_one_line_and_the_next_run_goes_on(served, monkeypatch, caplog):
    from huggingface_hub import constants

    nowhere = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    for how in ({"HF_HUB_OFFLINE": True}, {"HUGGINGFACE_CO_URL_TEMPLATE": nowhere}):
        with monkeypatch.context() as offline:
            for name, value in how.items():
                offline.setattr(constants, name, value)
            with pytest.raises(UsageError, match="the hub cannot be reached.*goes on"):
                hub.local_model(NAME)
    assert "Retrying" not in caplog.text, "half a minute of it"
    assert model.load_model(NAME).params


def test_a_vocabulary_inside_a_tokenizer_is_read(served, published, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(published[0], folder)
    entries = (folder / "vocab.txt").read_text().splitlines()
    (folder / "vocab.txt").unlink()
    ids = {entry: i for i, entry in enumerate(entries)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": ids}}))
    served.repositories["test/other"] = folder
    assert model.load_model("hf:test/other").vocab_path.read_text().splitlines() == entries


@pytest.mark.slow
def test_a_model_of_base_size_ranks_as_transformers_does(transformers, served, tmp_path):
    folder = tmp_path / "base"
    base = sizes(768, 3072, 12, 12)
    network = save_blip(
        transformers, folder, 0.02, base | {"image_size": 384, "patch_size": 16},
        base | {"max_position_embeddings": 512}, 30522,
    )  # fmt: skip
    served.repositories["test/base"] = folder
    assert_ranks_alike(cada_jax.load_model("hf:test/base"), network, (384, 384))
