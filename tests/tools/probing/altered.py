"""A subject of which some parameters are changed."""

import dataclasses

import jax

from tools.probing import (
    subject,
)


def altered(params, change):
    """The parameters with `change(names, leaf)` in place of each leaf."""

    def at(path, leaf):
        return change([getattr(key, "key", None) for key in path], leaf)

    return jax.tree_util.tree_map_with_path(at, params)


def with_params(one: subject.Subject, change) -> subject.Subject:
    """The subject with other parameters; its images are encoded again."""
    params = altered(one.retriever.params, change)
    retriever = dataclasses.replace(one.retriever, params=params)
    return subject.make_subject(one.name, retriever, one.split, None)
