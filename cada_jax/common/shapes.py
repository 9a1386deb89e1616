"""Types of arrays that name their dtype and axes: `Float32[Array, "B E"]`, for annotations.

They are those of jaxtyping, and the tests check them whenever an annotated function is called, see
`tests/conftest.py`. Nothing else needs jaxtyping: without it they stand for `typing.Any`.

`Float` is any float, bfloat16 too; `Int` any signed integer, `Shaped` any dtype. In the axes
"..." stands for any number of them, `#T` for T or 1, and "" for none: a scalar.
"""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

Array = jax.Array
AnyArray = jax.Array | np.ndarray  # on the device, or still on the host

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int, Int32, PRNGKeyArray, Shaped, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Float32, Int, Int32, PRNGKeyArray, Shaped, UInt8
    except ImportError:

        class _AnyDtype:
            def __class_getitem__(cls, array_and_axes: tuple) -> Any:
                return Any

        Bool = Float = Float32 = Int = Int32 = Shaped = UInt8 = _AnyDtype
        PRNGKeyArray = jax.Array

__all__ = [
    "AnyArray",
    "Array",
    "Bool",
    "Float",
    "Float32",
    "Int",
    "Int32",
    "PRNGKeyArray",
    "Shaped",
    "UInt8",
]
