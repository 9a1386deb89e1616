"""Settings of the generated sets, and persons, images and captions in any order."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cada_jax.data.datasets.synthetic.bound_twins import group_sizes, swap_colors
from cada_jax.data.datasets.synthetic.camera import Shot, sample_shot
from cada_jax.data.datasets.synthetic.captions import Caption, write_caption
from cada_jax.data.datasets.synthetic.drawing import draw_person, encode_jpeg
from cada_jax.data.datasets.synthetic.identity import (
    Identity,
    bucket,
    sample_identity,
    sample_twin,
)
from cada_jax.data.datasets.synthetic.world import ABROAD, CROWD, HOME, World

SPLITS = ("train", "val", "test")
_BUCKETS = 16
_TRIES = 400
_IDENTITY, _SHOT, _DRAW, _CAPTION = range(4)  # streams of random numbers


@dataclass(frozen=True)
class Settings:
    """One variant of the generated set."""

    name: str
    description: str
    seed: int
    train_persons: int
    val_persons: int
    test_persons: int
    images_per_person: int
    buckets: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # of identities, by split
    captions_per_image: int = 2
    world: World = HOME
    twins: float = 0.09  # share of persons made as twins; with their models, twice as many
    groups: tuple[int, int] | None = None  # sizes of groups of `bound_twins`, in place of `twins`

    def persons(self, split: str) -> int:
        """Number of persons of a split."""
        return (self.train_persons, self.val_persons, self.test_persons)[SPLITS.index(split)]

    def first_pid(self, split: str) -> int:
        """Number of a split's first person; numbers run on from split to split."""
        return sum(self.persons(before) for before in SPLITS[: SPLITS.index(split)])


# Which identities a split may use is decided by a hash of the attributes (see `bucket`), so
# that no person of `pretrain` is in `demo`, or of one split in another. `tiny` serves
# tests and shares the buckets of `demo`.
_DEMO_BUCKETS = ((0, 1), (2,), (3,))
_OTHER_BUCKETS = (tuple(range(4, 14)), (14,), (15,))
DEMO = Settings("demo", "the demo of the README", 0, 600, 100, 200, 5, _DEMO_BUCKETS)


def _large(name: str, description: str, seed: int, **other) -> Settings:
    return Settings(name, description, seed, 8000, 100, 100, 4, _OTHER_BUCKETS, **other)


PRETRAIN = _large("pretrain", "other and more persons, to pretrain the small shipped model", 1)
_ABROAD = "people who look and speak otherwise, to pretrain the start of the demo"
_CROWD = "near-twins in groups, free descriptions, worse cameras: where binding decides"
_CROWD_SIZES = {"train_persons": 2000, "test_persons": 2000, "images_per_person": 5}
_TINY_SIZES = {"train_persons": 24, "val_persons": 8, "test_persons": 8, "images_per_person": 3}
VARIANTS = {
    s.name: s
    for s in (
        DEMO,
        PRETRAIN,
        _large("abroad", _ABROAD, 3, world=ABROAD),
        replace(_large("crowd", _CROWD, 4, world=CROWD, groups=(3, 6)), **_CROWD_SIZES),
        replace(
            DEMO, name="tiny", description="a handful of persons, for tests", seed=2, **_TINY_SIZES
        ),
    )
}


@dataclass(frozen=True)
class Example:
    """One image: JPEG bytes, the person's number in the split and the captions."""

    person: int
    image: int
    identity: Identity
    shot: Shot
    jpeg: bytes
    captions: tuple[Caption, ...]


def image_path(pid: int, image: int) -> str:
    """Returns the file name of a person's image, below imgs/ where images are files."""
    return f"{pid:05d}_c{image + 1:02d}.jpg"


def _rng(settings: Settings, split: str, stream: int, *numbers: int) -> np.random.Generator:
    seed = (settings.seed, SPLITS.index(split), stream, *numbers)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))


def make_identities(settings: Settings, split: str) -> list[Identity]:
    """Returns the distinct persons of a split, near-twins among them; about 0.1 ms each."""
    if settings.groups is not None:
        return _make_groups(settings, split, settings.groups)
    persons: list[Identity] = []
    taken: set[Identity] = set()
    for number in range(settings.persons(split)):
        rng = _rng(settings, split, _IDENTITY, number)
        twin = bool(persons) and rng.random() < settings.twins
        while True:
            if twin:  # another base each time: some have no twin in the allowed buckets
                person = sample_twin(rng, persons[int(rng.integers(len(persons)))])
            else:
                person = sample_identity(rng)
            if person not in taken and _lives_in(settings, split, person):
                break
        persons.append(person)
        taken.add(person)
    return persons


def _lives_in(settings: Settings, split: str, person: Identity) -> bool:
    """Whether the world has such a person, and the split may have them."""
    allowed = settings.buckets[SPLITS.index(split)]
    return settings.world.has(person) and bucket(person, _BUCKETS) in allowed


def _make_groups(settings: Settings, split: str, sizes: tuple[int, int]) -> list[Identity]:
    """Returns persons in groups, in which each has the colours of another exchanged."""
    rng = _rng(settings, split, _IDENTITY)
    persons: list[Identity] = []
    taken: set[Identity] = set()
    for size in group_sizes(rng, settings.persons(split), sizes):
        group: list[Identity] = []
        tries = 0
        while len(group) < size:
            tries += 1
            if tries > _TRIES:  # too few twins of these in the allowed buckets: other people
                group, tries = [], 0
            base = group[int(rng.integers(len(group)))] if group else None
            person = sample_identity(rng) if base is None else swap_colors(rng, base)
            if person is None or person in taken or person in group:
                continue
            if _lives_in(settings, split, person):
                group.append(person)
        persons += group
        taken.update(group)
    return persons


def make_captions(
    settings: Settings, split: str, identity: Identity, person: int, image: int
) -> tuple[Shot, tuple[Caption, ...]]:
    """Returns the shot of one image and its captions, without drawing it."""
    rng = _rng(settings, split, _SHOT, person, image)
    shot = sample_shot(rng, cameras=settings.world.cameras)
    captions = tuple(
        write_caption(
            identity,
            shot,
            _rng(settings, split, _CAPTION, person, image, number),
            settings.world.speech,
        )
        for number in range(settings.captions_per_image)
    )
    return shot, captions


def make_example(
    settings: Settings, split: str, identity: Identity, person: int, image: int
) -> Example:
    """Returns one image and its captions: a function of seed, split, person and image only."""
    shot, captions = make_captions(settings, split, identity, person, image)
    rng = _rng(settings, split, _DRAW, person, image)
    picture = draw_person(identity, shot, rng, settings.world.look)
    return Example(person, image, identity, shot, encode_jpeg(picture, shot.quality), captions)


def generate(settings: Settings, split: str) -> Iterator[Example]:
    """Yields the examples of a split, person by person.

    Args:
        settings: one of `VARIANTS`, or changed by `dataclasses.replace`.
        split: "train", "val" or "test".
    """
    for person, identity in enumerate(make_identities(settings, split)):
        for image in range(settings.images_per_person):
            yield make_example(settings, split, identity, person, image)


def caption_texts(settings: Settings, split: str) -> Iterator[str]:
    """Yields the texts that `generate` would give, without drawing."""
    for person, identity in enumerate(make_identities(settings, split)):
        for image in range(settings.images_per_person):
            for caption in make_captions(settings, split, identity, person, image)[1]:
                yield caption.text
