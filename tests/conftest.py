"""What every test shares: eight simulated devices, strict shapes, a very small configuration."""

import atexit
import contextlib
import importlib
import importlib.metadata
import os
import pathlib
import shutil
import tempfile

# Compiling is most of what these tests do: a training step takes 30 s with XLA's usual settings,
# 12 s with the first of these, 6 s with both. XLA does not start with a flag it does not know, so
# the second is for the releases that were seen to know it.
FAST_COMPILE = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FAST_COMPILE += " --xla_cpu_use_fusion_emitters=false"

# Before JAX is imported anywhere: the number of CPU devices is read once, at its start.
_DEVICES = "--xla_force_host_platform_device_count"
if _DEVICES not in os.environ.get("XLA_FLAGS", ""):
    _FLAGS = f"{_DEVICES}=8 {FAST_COMPILE}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# What one test, worker or process of a test compiles serves the others, and no home folder is used.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="cada_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

# pymilvus sets up logging anew when it is imported, which closes the handlers of absl, and with
# them what pytest captures. So it comes first, where it is installed.
with contextlib.suppress(ImportError):
    import pymilvus  # noqa: E402, F401

import hypothesis  # noqa: E402
import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

# The arrays that these packages' functions take and return are checked against their annotations,
# dtype and axes, at every call. The hook finds only what is imported after it.
CHECKED = ("cada_jax.models", "cada_jax.objective", "cada_jax.retrieval")
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

from cada_jax import config as config_lib  # noqa: E402

# The same examples at every run in CI; many more, and others every time, by night.
hypothesis.settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.register_profile("nightly", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# [B] + [B,C] broadcasts silently in NumPy and is a bug more often than a wish.
jax.config.update("jax_numpy_rank_promotion", "raise")

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
# Small folders in the published formats, one for each data set.
DATASETS = REPOSITORY / "tests" / "data" / "datasets"


def _load_config(name: str, variant: str | None = None):
    """The ConfigDict of `configs/NAME.py`, changed by a variant."""
    path = REPOSITORY / "configs" / f"{name}.py"
    return config_lib.load_config(f"{path}:{variant}" if variant else str(path))


def tiny_config_of_steps():
    """Every switch as in `configs/default.py`, sizes that compile in a second; no dropout."""
    config = _load_config("default")
    config.data.image_size = (32, 16)
    config.data.max_length = 21
    config.model.image.patch = (8, 8)
    for part in (config.model.image, config.model.text):
        part.width = 32
        part.depth = 2
        part.heads = 2
        part.mlp_dim = 64
    config.model.image.drop_path = 0.0
    config.model.text.vocab_size = 200
    config.model.text.max_positions = 32
    config.model.text.dropout = 0.0
    config.model.embed_dim = 16
    config.model.tokens.dec = 198
    config.model.tokens.enc = 199
    config.train.batch_size = 8
    return config


def tiny_config_of_runs():
    """Of whole runs on noise: batches of 8, two epochs, an evaluation after each; locked."""
    c = tiny_config_of_steps()
    c.model.image.depth = c.model.text.depth = 1
    c.model.text.dropout = 0.1
    c.optimizer.learning_rate = 1e-3
    c.train.epochs = 2
    c.train.log_every = 2
    c.train.keep_checkpoints = 10
    c.eval.batch_size = c.eval.rerank_batch = 8
    c.eval.rerank_top_k = 2
    return c.lock()


@pytest.fixture
def unchecked_shapes():
    """No annotation is checked: for tests of what a function itself says of wrong arrays."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def load_config():
    """A function: `load_config("rstp", "released")` returns the ConfigDict of that file."""
    return _load_config


@pytest.fixture
def tiny_config():
    """A fresh, changeable ConfigDict: images 32x16 in 8x8 patches, width 32, two layers."""
    return tiny_config_of_steps()


@pytest.fixture
def golden() -> pathlib.Path:
    """The folder of numbers obtained from the released PyTorch code."""
    return REPOSITORY / "tests" / "golden"


def _required_in_ci(name: str):
    if os.environ.get("CADA_CI"):
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"{name} is not installed: pip install -e '.[torch]'")


@pytest.fixture
def torch():
    """The module, for tests that compare with PyTorch: skipped without it, but not in CI."""
    return _required_in_ci("torch")


@pytest.fixture
def transformers(torch):
    """Hugging Face's module, under the same rule as `torch`."""
    return _required_in_ci("transformers")
