"""The two ways of `python -m cada_jax convert`: from PyTorch to a model folder, and back."""

import argparse
import json
import tempfile
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.checkpoints import export
from cada_jax.checkpoints.torch import files
from cada_jax.checkpoints.torch.convert import Leaves, from_torch
from cada_jax.checkpoints.torch.gate_cost import gate_cost
from cada_jax.checkpoints.torch.names import missing_for_retrieval
from cada_jax.checkpoints.torch.report import Row, format_report
from cada_jax.checkpoints.torch.sizes import OUR_KEY, infer_sizes, our_config, stored_grid
from cada_jax.checkpoints.torch.targets import check_file_target, check_folder_target
from cada_jax.checkpoints.torch.to_torch import to_torch
from cada_jax.common.errors import UsageError
from cada_jax.common.pytrees import flat_arrays
from cada_jax.models.cada import from_config, init_params
from cada_jax.models.position_embedding import patch_grid
from cada_jax.text.tokenizer import Tokenizer, load_tokenizer


def is_model_folder(source: str) -> bool:
    """Whether `source` names a model folder of this project, rather than a PyTorch checkpoint."""
    if source.startswith("pretrained:"):
        return True
    path = files.expand(source)
    return (path / config_lib.CONFIG_FILE).exists() and not files.is_torch_checkpoint(path)


def from_pytorch(flags: argparse.Namespace) -> None:
    """Converts to a model folder, which appears only when everything fits.

    Raises:
      UsageError: the source does not fit, or the target is not free; nothing is written then.
    """
    target = check_folder_target(flags.target, files.expand(flags.source), flags.overwrite)
    checkpoint = files.read_checkpoint(flags.source)
    if flags.attribute_decoder:
        checkpoint.tensors = _with_attribute_decoder(checkpoint.tensors, flags.attribute_decoder)
    config = _config(flags, checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = _tokenizer(flags, checkpoint, Path(folder))
        _set_tokens(config, tokenizer, flags.vocab or tokenizer.path)
        leaves, report = _convert(flags, checkpoint, config)
        try:
            params = unflatten_dict(leaves, sep="/")
            export.save_model(target, params, config, tokenizer.path, overwrite=flags.overwrite)
        except OSError as err:
            if isinstance(err, UsageError):
                raise
            raise UsageError(f"cannot write {target}: {err}") from err
    print(format_report(report))
    print(f"{sum(x.size for x in leaves.values()):,} parameters in {target}")


def _config(flags: argparse.Namespace, checkpoint: files.Checkpoint) -> ConfigDict:
    stored = our_config(checkpoint)
    if stored is not None and not flags.config:
        return _stored_config(stored, checkpoint.path)
    config = config_lib.load_config(flags.config) if flags.config else config_lib.default_config()
    if not flags.config:
        infer_sizes(checkpoint.tensors, config)
    return config


def _stored_config(values: dict, origin: Path) -> ConfigDict:
    """The config that this project, perhaps an earlier version, wrote into `origin`."""
    if not isinstance(values.get("model"), dict):
        raise UsageError(
            f"{origin}: the config stored in it describes no model. Give one by --config"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / config_lib.CONFIG_FILE
        path.write_text(json.dumps(values), encoding="utf-8")
        config = config_lib.read_config(path)
    try:
        config = config_lib.upgraded(config).copy_and_resolve_references().unlock()
        config_lib.check_network(config)
    except (ValueError, TypeError) as err:  # a value of a type that its field cannot hold
        raise UsageError(f"{origin}: the config stored in it is of no use: {err}") from err
    return config


def _tokenizer(flags: argparse.Namespace, checkpoint: files.Checkpoint, folder: Path) -> Tokenizer:
    """The tokenizer of --vocab, else of the vocabulary beside or in the checkpoint."""
    vocab = flags.vocab or checkpoint.vocab
    stored = checkpoint.config.get(OUR_KEY)
    if vocab is None and isinstance(stored, dict) and isinstance(stored.get("vocab"), str):
        vocab = folder / "vocab.txt"
        vocab.write_text(stored["vocab"], encoding="utf-8", newline="")
    if vocab is None:
        raise UsageError(
            f"{flags.source} brings no vocabulary: name its WordPiece file or a hub name, "
            "--vocab=bert-base-uncased for the authors' and BLIP's checkpoints"
        )
    return load_tokenizer(vocab)


def _set_tokens(config: ConfigDict, tokenizer: Tokenizer, vocab: str | Path) -> None:
    if tokenizer.vocab_size != config.model.text.vocab_size:
        raise UsageError(
            f"--vocab={vocab} has {tokenizer.vocab_size} entries with [DEC] and [ENC], expected "
            f"config.model.text.vocab_size = {config.model.text.vocab_size}"
        )
    for name, index in tokenizer.special.items():
        config.model.tokens[name] = index


def _with_attribute_decoder(tensors: dict, path: str) -> dict[str, np.ndarray]:
    other = files.read_checkpoint(path).tensors
    part = {name: x for name, x in other.items() if name.startswith("text_decoder.")}
    if not part:
        raise UsageError(f"--attribute_decoder={path} has no tensor named text_decoder.*")
    return {n: x for n, x in tensors.items() if not n.startswith("text_decoder.")} | part


def _convert(
    flags: argparse.Namespace, checkpoint: files.Checkpoint, config: ConfigDict
) -> tuple[Leaves, list[Row]]:
    """Returns (all leaves, new ones initialised by config.seed; report)."""
    config_lib.check_network(config)
    model = from_config(config)
    key = jax.random.key(config.seed)
    shapes = jax.eval_shape(lambda key: init_params(model, config, key), key)
    shapes = {path: leaf.shape for path, leaf in flat_arrays(shapes).items()}
    leaves, report = from_torch(
        checkpoint.tensors,
        shapes,
        patch_grid(config.model.image),
        stored_grid(checkpoint),
        str(checkpoint.path),
        np.random.default_rng(config.seed) if flags.append_tokens else None,
    )
    if parts := missing_for_retrieval(set(shapes) - set(leaves)):
        raise UsageError(
            f"{checkpoint.path} has no {', no '.join(parts)}, and a model with random ones would "
            "retrieve at random. A captioning BLIP gives its attribute decoder alone: take a "
            f"retrieval checkpoint as SRC and --attribute_decoder={checkpoint.path}. To train from "
            "what is there, name the checkpoint itself in config.init_from"
        )
    if len(leaves) < len(shapes):
        fresh = flat_arrays(jax.jit(lambda k: init_params(model, config, k))(key))
        leaves |= {path: np.asarray(fresh[path]) for path in shapes if path not in leaves}
    return leaves, report


def to_pytorch(flags: argparse.Namespace) -> None:
    """Converts a model folder to a .pth.

    Raises:
      UsageError: the source cannot be read or has parts PyTorch has no place for, or the target is
        not free; nothing is written then.
    """
    target = check_file_target(flags.target, flags.source, flags.overwrite)
    params, config, vocab = export.load_model(flags.source)
    leaves = flat_arrays(params)
    extras = "drop_gate" if flags.drop_gate else "keep" if flags.keep_extras else "refuse"
    tensors = to_torch(leaves, extras)
    ours = {
        "config": json.loads(config_lib.to_json(config)),
        "vocab": vocab.read_bytes().decode("utf-8"),
    }
    if flags.drop_gate:
        print(gate_cost(params, config))
    files.write_checkpoint(target, tensors, {OUR_KEY: ours})
    print(f"{len(tensors)} tensors in {target}")
