"""Starting weights: by name, reported, and refused when they do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.checkpoints import model, weights
from cada_jax.checkpoints.positions import resize_positions
from cada_jax.common.errors import UsageError
from cada_jax.common.pytrees import flat_arrays
from cada_jax.models import cada
from cada_jax.text import vocabulary


def _params(extra: dict | None = None) -> dict:
    return {"a": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, **(extra or {})}


def test_arrays_of_the_same_name_are_taken_and_the_rest_is_reported():
    source = {"a/kernel": np.full((2, 3), 7.0), "b": np.ones(4)}
    params, report = weights.fill_params(_params({"gate": jnp.full(2, 5.0)}), source, "it")
    np.testing.assert_array_equal(params["a"]["kernel"], source["a/kernel"])
    assert params["a"]["kernel"].dtype == jnp.float32
    np.testing.assert_array_equal(params["gate"], np.full(2, 5.0))
    assert report.loaded == {"a/kernel": (2, 3)}
    assert report.new == {"a/bias": (3,), "gate": (2,)}
    assert report.left_out == {"b": (4,)}
    for part in ("loaded: 1 arrays, 6 parameters", "new: gate (2,)", "left out: b (4,)"):
        assert part in str(report)


def test_arrays_land_on_the_sharding_of_those_they_replace():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.P("x"))
    source = {"w": np.arange(8, dtype=np.float32)}
    params, _ = weights.fill_params({"w": jax.device_put(jnp.zeros(8), split)}, source, "it")
    assert params["w"].sharding == split
    np.testing.assert_array_equal(params["w"], source["w"])


def test_every_misshaped_array_is_listed():
    source = {"a/kernel": np.ones((2, 4)), "a/bias": np.ones(4)}
    with pytest.raises(UsageError) as error:
        weights.fill_params(_params(), source, "config.init_from=x")
    text = str(error.value)
    assert "config.init_from=x" in text
    assert "a/kernel: (2, 4) there, (2, 3) in this" in text
    assert "a/bias: (4,) there, (3,) in this" in text


@pytest.fixture
def vocabularies(tmp_path):
    def write(name, entries):
        (tmp_path / name).write_text("\n".join(entries) + "\n")
        return tmp_path / name

    return write


def test_the_vocabularies_must_give_the_same_ids(vocabularies):
    ours = vocabularies("ours", ["[PAD]", "red", "coat"])
    same = vocabularies("same", ["[PAD]", "red", "coat", "[DEC]", "[ENC]"])
    vocabulary.check_same_ids(ours, same, "it")
    vocabulary.check_same_ids(same, ours, "it")
    for entries in (["[PAD]", "coat", "red"], ["[PAD]", "red"], ["[PAD]", "red", "coat", "blue"]):
        with pytest.raises(UsageError, match="another vocabulary"):
            vocabulary.check_same_ids(ours, vocabularies("other", entries), "it")


def test_a_model_of_another_image_size_gets_its_positions_resized(
    tmp_path, tiny_config, vocabularies
):
    vocab = vocabularies("words", ["[PAD]", "red"])
    grid = np.random.default_rng(0).normal(size=(1, 1 + 4 * 2, 6)).astype(np.float32)
    source = {"image_encoder": {"pos_embed": grid}}
    model.save_model(tmp_path / "model", source, tiny_config, vocab)
    tiny_config.init_from = str(tmp_path / "model")
    tiny_config.data.image_size = (48, 32)  # patches 8x8: a grid of 6x4 for one of 4x2
    params = {"image_encoder": {"pos_embed": jnp.zeros((1, 1 + 6 * 4, 6))}}
    params, report = weights.load_initial(tiny_config, params, vocab)
    expected = resize_positions(grid, (4, 2), (6, 4))
    np.testing.assert_array_equal(params["image_encoder"]["pos_embed"], expected)
    assert not report.new and not report.left_out


@pytest.fixture
def two_models(tiny_config, tmp_path, vocabularies):
    """(configuration that starts from a model, its parameters, others, the vocabulary)."""
    vocab = vocabularies("words", ["[PAD]", "red"])
    network = cada.from_config(tiny_config)
    init = jax.jit(lambda key: cada.init_params(network, tiny_config, key))
    source, ours = (jax.tree.map(lambda x: x + 0.01, init(jax.random.key(i))) for i in range(2))
    model.save_model(tmp_path / "model", jax.device_get(source), tiny_config, vocab)
    tiny_config.init_from = str(tmp_path / "model")
    return tiny_config, source, ours, vocab


def _outputs(config, params):
    """Both embeddings, the match logits and the predicted words of some pair."""
    model = cada.from_config(config)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, 32, 16, 3)).astype(np.float32)
    token_ids = rng.integers(110, 190, (1, 21), dtype=np.int32)
    image, image_tokens = cada.apply(model, params, "encode_image", images)
    text, _ = cada.apply(model, params, "encode_text", token_ids)
    decoded = cada.apply(model, params, "decode", token_ids, image_tokens)
    masked = cada.apply(model, params, "decode_masked", token_ids, token_ids > 0, image_tokens)
    return {
        "image": cada.apply(model, params, "project_image", image),
        "text": cada.apply(model, params, "project_text", text),
        "decoder": decoded,
        "match": cada.apply(model, params, "match", decoded),
        "words": cada.apply(model, params, "masked_logits", masked),
    }


def test_a_start_from_encoders_alone_embeds_alike_and_decodes_with_nothing_learned(two_models):
    config, source, ours, vocab = two_models
    config.init_parts = "encoders"
    params, report = weights.load_initial(config, ours, vocab)
    theirs, found = _outputs(config, source), _outputs(config, params)
    for name in ("image", "text"):
        np.testing.assert_array_equal(found[name], theirs[name])
    for name in ("decoder", "match", "words"):
        assert not np.allclose(found[name], theirs[name]), name
    flat = {key: flat_arrays(tree) for key, tree in
            {"source": source, "ours": ours, "found": params}.items()}  # fmt: skip
    gate = "text_encoder/layers/gate/"
    for name, x in flat["found"].items():
        taken = name in report.loaded
        assert taken != (name in report.not_taken)
        if not name.startswith(gate):
            np.testing.assert_array_equal(x, flat["source" if taken else "ours"][name])
        else:
            assert not taken and not np.any(x), "a gate starts at 1 exactly"
    parts = {name.partition("/")[0] for name in report.not_taken}
    assert parts == {"text_encoder", "attribute_decoder", "itm_head", "itm_local_head"}
    assert not report.new and not report.left_out and not report.new_is_neutral
    assert f"not taken (config.init_parts): {len(report.not_taken)} arrays" in str(report)


def test_a_start_from_the_whole_model_computes_what_it_does(two_models):
    config, source, ours, vocab = two_models
    params, report = weights.load_initial(config, ours, vocab)
    theirs, found = _outputs(config, source), _outputs(config, params)
    for name, x in theirs.items():
        np.testing.assert_array_equal(found[name], x)
    assert not report.not_taken and report.new_is_neutral and "not taken" not in str(report)
