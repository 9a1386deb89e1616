"""Compiled programs kept on disk from one run to the next."""

import os
import pathlib

import jax


def enable_compilation_cache() -> None:
    """Lets JAX keep compiled programs on disk, so that the second run starts at once.

    The folder is $JAX_COMPILATION_CACHE_DIR, which JAX reads itself, or else ~/.cache/cada_jax.
    Set that variable to the empty string to have no cache.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "cada_jax"
        jax.config.update("jax_compilation_cache_dir", str(folder.expanduser()))
