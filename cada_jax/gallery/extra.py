"""Libraries that only the search of one's own pictures needs: the extra `search`."""

import importlib
from typing import Any

from cada_jax.common.errors import UsageError


def require(module: str) -> Any:
    """Imports a library of the extra.

    Args:
      module: "pymilvus", for instance.

    Raises:
      UsageError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as err:
        library = module.partition(".")[0]
        raise UsageError(
            f"{library} is not installed, and galleries need it: pip install 'cada_jax[search]', "
            "or pip install -e '.[search]' in a clone"
        ) from err
