"""A warning of our own fails a test; one of a library does not."""

import warnings

import pytest


def warn_as(module: str, category: type[Warning] = UserWarning) -> None:
    """Warns from code whose module has that name."""
    code = compile("import warnings; warnings.warn('careful', category)", module, "exec")
    exec(code, {"__name__": module, "category": category})


@pytest.mark.parametrize("module", ["cada_jax", "cada_jax.models.vit", "tools.device.memory"])
@pytest.mark.parametrize("category", [UserWarning, DeprecationWarning, RuntimeWarning])
def test_a_warning_of_ours_is_an_error(module, category):
    with pytest.raises(category, match="careful"):
        warn_as(module, category)


@pytest.mark.parametrize("module", ["tensorflow.python", "jax", "my_cada_jax", "cada_jaxlike"])
def test_a_warning_of_a_library_is_none(module):
    with warnings.catch_warnings(record=True):  # the filters stay as they are
        warn_as(module, DeprecationWarning)
