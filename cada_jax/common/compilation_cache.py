"""What is kept on disk from one run to the next: compiled programs, converted models."""

import os
import pathlib

import jax


def cache_folder() -> pathlib.Path:
    """The folder for what can be made again: ~/.cache/cada_jax."""
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "cada_jax"
    return folder.expanduser()


def enable_compilation_cache() -> None:
    """Lets JAX keep compiled programs on disk, so that the second run starts at once.

    The folder is $JAX_COMPILATION_CACHE_DIR, which JAX reads itself, or else ~/.cache/cada_jax.
    Set that variable to the empty string to have no cache.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
