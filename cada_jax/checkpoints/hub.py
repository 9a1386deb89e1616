"""Models of the Hugging Face hub: `hf:ORG/NAME` is downloaded, converted once and kept.

`huggingface_hub` (extra `hub`) downloads: it shows a bar, continues what was interrupted, keeps the
files, and reads HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and tokens. What a model was converted to lies
in ~/.cache/cada_jax/models; later uses need no network.
"""

import contextlib
import dataclasses
import importlib
import pathlib
from collections.abc import Iterator

from cada_jax.checkpoints import manifest
from cada_jax.common.compilation_cache import cache_folder
from cada_jax.common.console import say
from cada_jax.common.errors import UsageError, needs_extra, reason
from cada_jax.common.files import read_json
from cada_jax.common.folder_lock import locked

PREFIX = "hf:"
# Whichever of each is there first; an index names the files of its shards.
_TENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_VOCABULARY = ("vocab.txt", "tokenizer.json")
_CONFIG, _CARD = "config.json", "README.md"


@dataclasses.dataclass(frozen=True)
class Downloaded:
    """A repository's files that a conversion reads.

    folder: where they lie; revision: the commit; licence: by the card, "" where it names none.
    """

    folder: pathlib.Path
    revision: str
    licence: str


def local_model(name: str) -> pathlib.Path:
    """The model folder of a name of the hub; made at the first use.

    Args:
      name: "hf:ORG/NAME" or "hf:ORG/NAME@REVISION".

    Raises:
      UsageError: it cannot be downloaded, or is no BLIP for retrieval. What was downloaded of it is
        kept for the next try.
    """
    from cada_jax.checkpoints.torch import conversions  # which imports modules that import this one

    slug = name.removeprefix(PREFIX).replace("/", "--")
    folder = cache_folder() / "models" / slug
    if (folder / manifest.MANIFEST_FILE).exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{slug}.lock", wait=True):
        if not (folder / manifest.MANIFEST_FILE).exists():
            found = download(name)
            converted = conversions.convert(str(found.folder))
            conversions.save(converted, folder, card(name, found), overwrite=True)
            say(f"{name} (revision {found.revision[:12]}), kept in {folder}\n{converted}")
            say(f"licence, by its card: {found.licence or 'none named'}")
    return folder


def card(name: str, found: Downloaded) -> dict[str, str]:
    """What card.json says of a model that was converted."""
    from cada_jax.checkpoints import model

    about = {"made_from": name, "revision": found.revision, "licence": found.licence}
    return {"domain": model.PHOTOGRAPHS} | about


def fetched(source: str) -> tuple[str, dict[str, str]]:
    """(path, card) of a checkpoint to convert, which is downloaded if its name is of the hub."""
    if not source.startswith(PREFIX):
        return source, {"made_from": source}
    found = download(source)
    return str(found.folder), card(source, found)


def download(name: str) -> Downloaded:
    """Downloads what a conversion reads of a repository.

    Raises:
      MissingFileError: `huggingface_hub` is not installed, or torch where only it reads them.
      UsageError: in one line: the hub cannot be reached, there is no such repository or revision,
        it is gated, it is no BLIP, or the disk is full.
    """
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    with _explained(name):
        config = _fetch(repository, revision or None, _CONFIG)
        kind = read_json(config, "a model's configuration").get("model_type") if config else None
        if config is None or kind != "blip":
            raise UsageError(f"{name}: expected a BLIP for retrieval, got a model of type {kind!r}")
        commit = config.parent.name  # CACHE/models--ORG--NAME/snapshots/COMMIT/config.json
        weights = _first(repository, commit, _TENSORS)
        if weights is None:
            with needs_extra("torch"):  # before the download
                importlib.import_module("torch")
            weights = _first(repository, commit, _PICKLES)
        if weights is None:
            raise UsageError(f"{name}: it holds none of {', '.join((*_TENSORS, *_PICKLES))}")
        if weights.suffix == ".json":
            shards = read_json(weights, "an index of shards")["weight_map"].values()
            for shard in sorted(set(shards)):
                _fetch(repository, commit, shard)
        _first(repository, commit, _VOCABULARY)
        text = _fetch(repository, commit, _CARD)
        return Downloaded(config.parent, commit, _licence(text))


def snapshot(name: str, patterns: list[str]) -> pathlib.Path:
    """A folder with a repository's files of these patterns; name, errors as of `download`."""
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    with _explained(name):
        from huggingface_hub import snapshot_download

        found = snapshot_download(repository, revision=revision or None, allow_patterns=patterns)
        return pathlib.Path(found)


def _first(repository: str, revision: str, names: tuple[str, ...]) -> pathlib.Path | None:
    found = (_fetch(repository, revision, name) for name in names)
    return next((path for path in found if path), None)


def _fetch(repository: str, revision: str | None, name: str) -> pathlib.Path | None:
    """A file of a repository, None if it has no such file."""
    import huggingface_hub as hub
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        cached = hub.try_to_load_from_cache(repository, name, revision=revision)
        if not isinstance(cached, str):
            # Asked for once: without a network the download would try again for half a minute.
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, name, revision=revision))
        return pathlib.Path(hub.hf_hub_download(repository, name, revision=revision))
    except RemoteEntryNotFoundError:
        return None


def _licence(text: pathlib.Path | None) -> str:
    """The licence that a model card names."""
    from huggingface_hub.repocard import metadata_load

    found = metadata_load(text) if text else None
    return str((found or {}).get("license", ""))


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns what the hub's client raises into one line with the next step."""
    with needs_extra("hub"):
        from huggingface_hub import errors
    away = (
        "the hub cannot be reached, and the files are not here. What was downloaded is kept: "
        "the same command goes on when there is a network"
    )
    known = {
        errors.GatedRepoError: "it is gated: accept its terms on its page, then `hf auth login`",
        errors.RepositoryNotFoundError: "there is no such repository, or it is private",
        errors.RevisionNotFoundError: "there is no such revision of it",
        errors.HFValidationError: "expected hf:ORG/NAME or hf:ORG/NAME@REVISION",
        errors.LocalEntryNotFoundError: away,
        errors.OfflineModeIsEnabled: away,
    }
    try:
        yield
    except UsageError:
        raise
    except Exception as e:  # those of its HTTP client have no base in common with its own
        said = next((words for kind, words in known.items() if isinstance(e, kind)), None)
        if type(e).__name__ == "ConnectError":  # of httpx or httpx2, by the version of the client
            said = away
        kept = f"the download failed ({reason(e)}). What came is kept: the same command goes on"
        raise UsageError(f"{name}: {said or kept}") from e
