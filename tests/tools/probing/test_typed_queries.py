"""Typed queries state what their image shows, and every person of whom that is true answers."""

import numpy as np

from cada_jax.data.datasets.synthetic import people
from cada_jax.data.datasets.synthetic.camera import visible
from cada_jax.data.datasets.synthetic.identity import NONE
from tools.probing.typed_queries import answers, type_queries, type_query

SETTINGS = people.VARIANTS["tiny"]
EXAMPLES = list(people.generate(SETTINGS, "test"))
SEEN = [visible(example.identity, example.shot) for example in EXAMPLES]
PERSONS = [example.identity._asdict() for example in EXAMPLES]


def test_a_query_names_what_its_image_shows_and_nothing_that_is_absent():
    rng = np.random.default_rng(0)
    found = [(seen, type_query(rng, seen, SETTINGS.world.speech)) for seen in SEEN * 20]
    asked = [(seen, query) for seen, query in found if query is not None]
    assert len(asked) > len(found) / 2
    for seen, query in asked:
        assert query.stated.items() <= seen.items() and NONE not in query.stated.values()
        assert query.text == " ".join(query.text.split()) and "{c}" not in query.text
    words = [len(query.text.split()) for _, query in asked]
    assert 2 <= np.mean(words) <= 5


def test_every_image_of_a_person_of_whom_all_is_true_is_an_answer():
    queries = type_queries(SEEN, SETTINGS.world.speech, 40, 0)
    assert len({query.text for query in queries}) == 40
    right = answers(queries, PERSONS)
    assert right.shape == (40, len(EXAMPLES)) and right.any(axis=1).all() and not right.all()
    for row, query in zip(right, queries, strict=True):
        for is_right, person in zip(row, PERSONS, strict=True):
            assert is_right == (query.stated.items() <= person.items())
