"""One loss and one gradient, however they are spread over devices and over time."""

import jax
import numpy as np
import pytest

from cada_jax.distributed import batch as batch_lib
from cada_jax.distributed import mesh as mesh_lib
from cada_jax.distributed import partitioning
from cada_jax.models import cada
from cada_jax.models.ops import random_bits
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.objective import objective
from tests.conftest import tiny_config_of_steps
from tests.distributed.test_sharding import batch_for


@pytest.fixture(scope="module", autouse=True)
def split_small_parameters():
    """The tiny model must be split too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitioning, "MIN_FSDP_SIZE", 512)
        yield


def random_config():
    """Everything that is drawn: dropout, drop path, sampled negatives, masks."""
    config = tiny_config_of_steps()
    config.model.text.dropout = 0.1
    config.model.image.drop_path = 0.3
    config.atp.negatives = "sampled"
    return config


def gradient_of(config, chunks=1, sizes=(1, 1, 1)):
    """((total, terms), gradient) of one batch."""
    config.train.accumulation = chunks
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = sizes
    mesh = mesh_lib.make_mesh(config.mesh, jax.devices()[: np.prod(sizes)])
    model = cada.from_config(config)
    params = cada.init_params(model, config, jax.random.key(1))
    batch = batch_for(config)
    batch["token_ids"][::3, 4:] = 0  # rows whose groups are empty, unevenly spread over chunks
    batch["phrase_ids"][:3] = 0

    @jax.jit
    def run(params, batch):
        batch = batch | {"image": normalize_pixels(batch["image"])}
        with mesh_lib.traced_on(mesh):
            loss = jax.value_and_grad(objective.loss_terms, argnums=2, has_aux=True)
            return loss(model, config, params, batch, jax.random.key(3))

    params = jax.device_put(params, partitioning.param_shardings(mesh, params))
    return jax.device_get(run(params, batch_lib.to_global(mesh, batch)))


def assert_equal(ours, theirs, bound=1e-5):
    """Losses, and the gradient of every parameter, relative to its norm."""
    (total_n, terms_n), gradient_n = ours
    (total, terms), gradient = theirs
    np.testing.assert_allclose(total_n, total, rtol=bound)
    assert terms_n.keys() == terms.keys()
    for name in terms:
        np.testing.assert_allclose(terms_n[name], terms[name], rtol=bound, err_msg=name)
    pairs = zip(jax.tree.leaves_with_path(gradient_n), jax.tree.leaves(gradient), strict=True)
    for (path, a), b in pairs:
        name = jax.tree_util.keystr(path)
        if name.endswith("['key']['bias']"):  # zero in theory: what is there is rounding
            assert np.abs(a).max() < 1e-5
            continue
        assert np.linalg.norm(a - b) <= bound * np.linalg.norm(b) + 1e-12, name


@pytest.fixture(scope="module")
def one():
    """On one device, the whole batch at once."""
    found = gradient_of(random_config())
    assert found[0][1]["masked_tokens"] > 0
    assert np.linalg.norm(found[1]["itm_local_head"]["kernel"]) > 0
    return found


def test_chunks_on_a_mesh_give_the_losses_and_the_gradient_of_one_device(one):
    assert_equal(gradient_of(random_config(), chunks=2, sizes=(2, 2, 2)), one)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 4, 1), (2, 2, 2)])
def test_every_mesh_gives_the_same_losses_and_gradient(one, sizes):
    assert_equal(gradient_of(random_config(), sizes=sizes), one)


@pytest.mark.slow
def test_two_and_four_chunks_give_the_same_losses_and_gradient(one, monkeypatch):
    assert_equal(gradient_of(random_config(), chunks=4), one)
    assert_equal(gradient_of(random_config(), chunks=2, sizes=(2, 1, 1)), one)

    def of_chunk(key, rows):
        return seeds_of_batch(key, rows % (len(rows) // 4))

    # Seeds that every chunk has alike, to see that the comparisons above can fail.
    seeds_of_batch = random_bits.row_seeds
    monkeypatch.setattr(random_bits, "row_seeds", of_chunk)
    (other, _), _ = gradient_of(random_config(), chunks=4)
    assert abs(other / one[0][0] - 1) > 1e-4


@pytest.mark.slow
def test_hard_negatives_are_found_in_other_chunks():
    config = random_config()
    config.atp.negatives = "hardest"
    config.loss.ara_weight = 0.0
    whole, halves = (gradient_of(config, chunks) for chunks in (1, 2))
    assert "ara" not in halves[0][1]
    for _, gradient in (whole, halves):
        assert not np.any(gradient.pop("attribute_decoder")["head"]["bias"])
    assert_equal(halves, whole)


def config_with_addons():
    """Every loss that is off by default, beside what is drawn."""
    config = random_config()
    config.loss["global"], config.loss.alignment = "tal", "quota_transport"
    config.atp.groups, config.loss.group_weight = "phrases", 2.0
    return config


@pytest.fixture(scope="module")
def one_with_addons():
    return gradient_of(config_with_addons())


def test_losses_that_are_switched_on_are_the_same_in_chunks_on_a_mesh(one, one_with_addons):
    """Bound by the temperature of TAL, which multiplies what was rounded by 67."""
    (total, terms), _ = one_with_addons
    assert {"global", "alignment", "group"} <= terms.keys() and "alignment" not in one[0][1]
    parts = terms["global"] + terms["match"] + 2 * terms["group"] + 0.1 * terms["ara"]
    np.testing.assert_allclose(total, parts + 0.5 * terms["alignment"], rtol=1e-6)
    for name in ("global", "group"):
        assert abs(terms[name] - one[0][1][name]) > 1e-3
    spread = gradient_of(config_with_addons(), chunks=2, sizes=(2, 2, 2))
    assert_equal(spread, one_with_addons, bound=1e-4)


@pytest.mark.slow
def test_losses_that_are_switched_on_are_the_same_on_every_mesh(one_with_addons):
    for chunks, sizes in ((1, (8, 1, 1)), (1, (2, 2, 2)), (4, (1, 1, 1))):
        found = gradient_of(config_with_addons(), chunks, sizes)
        assert_equal(found, one_with_addons, bound=1e-4)
