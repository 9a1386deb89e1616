"""What indexing has to do, from files and records alone."""

import pytest

from cada_jax.gallery.plan import below, make_plan
from cada_jax.gallery.scan import File
from cada_jax.retrieval.searchable import Picture

BOX = (1.0, 2.0, 30.0, 40.0)


def record(path, box=None, size=5, modified_ns=7):
    return Picture(f"{path}{box}", path, size=size, modified_ns=modified_ns, box=box)


def planned(files, records, boxes_of=None, roots=("/p",), skipped=()):
    """(unchanged, [(path, boxes to index)], [paths that are gone])."""
    plan = make_plan(files, records, roots, boxes_of, frozenset(skipped))
    jobs = [(job.file.path, [box for box, _ in job.boxes]) for job in plan.jobs]
    return plan.unchanged, jobs, sorted({picture.path for picture in plan.gone})


A, B = File("/p/a", 5, 7), File("/p/b", 5, 7)


@pytest.mark.parametrize(
    "files, records, expected",
    [
        ([], [], (0, [], [])),
        ([A], [], (0, [("/p/a", [None])], [])),
        ([A], [record("/p/a")], (1, [], [])),
        ([A], [record("/p/a", size=6)], (0, [("/p/a", [None])], [])),
        ([A], [record("/p/a", modified_ns=8)], (0, [("/p/a", [None])], [])),
        ([A], [record("/p/b")], (0, [("/p/a", [None])], ["/p/b"])),
        ([A, B], [record("/p/a"), record("/p/b", BOX)], (2, [], [])),
        ([], [record("/q/a"), record("/pp/a")], (0, [], [])),
    ],
)
def test_files_are_compared_with_records(files, records, expected):
    assert planned(files, records) == expected


@pytest.mark.parametrize(
    "known, boxes, expected",
    [
        ([], [], (0, [], [])),
        ([], [BOX], (0, [("/p/a", [BOX])], [])),
        ([BOX], [BOX], (1, [], [])),
        ([None], [BOX], (0, [("/p/a", [BOX])], [])),
        ([BOX], [], (0, [("/p/a", [])], [])),
    ],
)
def test_boxes_are_compared_with_records(known, boxes, expected):
    records = [record("/p/a", box) for box in known]
    assert planned([A], records, lambda path: [(box, 0.5) for box in boxes]) == expected


def test_boxes_that_are_known_are_read_again_when_the_file_changed():
    assert planned([A], [record("/p/a", BOX, size=1)]) == (0, [("/p/a", [BOX])], [])


def test_what_could_not_be_looked_at_is_not_gone():
    records = [record("/p/shut/a"), record("/p/shut"), record("/p/shutter/a")]
    assert planned([], records, skipped=["/p/shut"]) == (0, [], ["/p/shutter/a"])


@pytest.mark.parametrize(
    "path, root, inside",
    [
        ("/p/a", "/p", True),
        ("/p/a", "/p/", True),
        ("/p/a", "/", True),
        ("/p", "/p", True),
        ("/pp/a", "/p", False),
        ("/p", "/p/a", False),
    ],
)
def test_what_lies_below_a_folder(path, root, inside):
    assert below(path, [root]) == inside
