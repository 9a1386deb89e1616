"""Generated people: who they are, what shows, what is said, and that all of it is repeatable."""

import hashlib
import io
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cada_jax.data.datasets.synthetic import lexicon
from cada_jax.data.datasets.synthetic.camera import BACK, FRONT, SIDE, sample_shot, visible
from cada_jax.data.datasets.synthetic.captions import (
    MAX_PIECES,
    MAX_WORDS,
    MIN_WORDS,
    count_pieces,
    write_caption,
)
from cada_jax.data.datasets.synthetic.drawing import draw_person
from cada_jax.data.datasets.synthetic.identity import (
    COLORS,
    NONE,
    Identity,
    is_valid,
    sample_identity,
    sample_twin,
)
from cada_jax.data.datasets.synthetic.people import (
    DEMO,
    SPLITS,
    VARIANTS,
    generate,
    make_captions,
    make_example,
    make_identities,
)
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH, build_vocabulary
from cada_jax.text.tokenizer import Tokenizer, clean_caption

TINY = VARIANTS["tiny"]


@pytest.fixture(scope="module")
def many():
    """(identity, shot, caption) of 800 captions, none of them drawn."""
    found = []
    for person, identity in enumerate(make_identities(DEMO, "val")[:80]):
        for image in range(5):
            shot, captions = make_captions(DEMO, "val", identity, person, image)
            found += [(identity, shot, caption) for caption in captions]
    return found


@pytest.fixture
def person():
    return sample_identity(np.random.default_rng(0))._replace(
        gender="man",
        hair_style="short",
        hair_color="black",
        headwear=NONE,
        headwear_color=NONE,
        eyewear="glasses",
        beard="beard",
        top="t-shirt",
        top_pattern="printed",
        outer=NONE,
        outer_color=NONE,
        bag="backpack",
        bag_color="red",
        item="book",
        item_color="green",
    )


def shot_of(view, **changes):
    plain = {"cropped": False, "occluder": NONE, "facing": 1, "pole_side": 1, "scale": 0.85}
    return replace(sample_shot(np.random.default_rng(0), view), **(plain | changes))


# Persons


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_has_its_persons_all_different_and_sensible(name):
    settings = replace(VARIANTS[name], train_persons=min(VARIANTS[name].train_persons, 600))
    for split in SPLITS:
        persons = make_identities(settings, split)
        assert len(persons) == len(set(persons)) == settings.persons(split)
        assert all(map(is_valid, persons))


def test_splits_and_pretraining_share_no_person():
    pretrain = replace(VARIANTS["pretrain"], train_persons=2000)
    groups = [set(make_identities(s, split)) for s in (DEMO, pretrain) for split in SPLITS]
    assert len(set.union(*groups)) == sum(map(len, groups))


def test_the_buckets_make_them_disjoint_whatever_the_seed_and_size():
    for name in ("pretrain", "abroad", "crowd"):
        owned = [set(b) for variant in ("demo", name) for b in VARIANTS[variant].buckets]
        assert len(set.union(*owned)) == sum(map(len, owned))


def test_nobody_on_whom_a_pretrained_model_is_tested_was_in_another_training():
    others = [VARIANTS[name].buckets for name in ("pretrain", "abroad", "crowd")]
    trained = {b for train, _, _ in others for b in train}
    tested = {b for _, val, test in others for b in (*val, *test)}
    assert not trained & tested


def test_a_twin_differs_in_exactly_one_attribute_that_can_be_seen():
    rng = np.random.default_rng(3)
    for _ in range(300):
        base = sample_identity(rng)
        twin = sample_twin(rng, base)
        (changed,) = [f for f in Identity._fields if getattr(base, f) != getattr(twin, f)]
        views = [
            (visible(base, shot_of(v)), visible(twin, shot_of(v))) for v in (FRONT, SIDE, BACK)
        ]
        assert any(a.get(changed) != b.get(changed) for a, b in views), changed


@pytest.mark.parametrize("split", SPLITS)
def test_about_a_sixth_of_a_split_has_a_near_twin_in_it(split):
    persons = make_identities(DEMO, split)
    masked = Counter(p[:i] + ("*",) + p[i + 1 :] for p in persons for i in range(len(p)))
    twins = sum(
        any(masked[p[:i] + ("*",) + p[i + 1 :]] > 1 for i in range(len(p))) for p in persons
    )
    assert 0.1 < twins / len(persons) < 0.25


# What shows


def test_a_back_view_hides_the_face_and_the_print(person):
    front, back = visible(person, shot_of(FRONT)), visible(person, shot_of(BACK))
    assert {"eyewear", "beard", "top_pattern"} <= front.keys() - back.keys()


def test_an_open_jacket_covers_the_top_behind_and_its_kind_in_front(person):
    dressed = person._replace(outer="jacket", outer_color="red", top="shirt", top_pattern="plain")
    assert "top_color" in visible(dressed, shot_of(FRONT))
    assert "top_color" not in visible(dressed, shot_of(BACK))
    assert "top" not in visible(dressed, shot_of(FRONT))


@pytest.mark.parametrize("change", [{"cropped": True}, {"occluder": "low"}])
def test_hidden_feet_have_no_shoes(person, change):
    assert "shoes" in visible(person, shot_of(FRONT))
    assert not {"shoes", "shoes_color"} & visible(person, shot_of(FRONT, **change)).keys()


def test_a_side_view_shows_what_the_near_hand_carries(person):
    person = person._replace(bag="handbag")
    right, left = (visible(person, shot_of(SIDE, facing=side)) for side in (1, -1))
    assert "item" in right and "bag" not in right
    assert "bag" in left and "item" not in left


def test_a_pole_hides_one_hand(person):
    behind_pole = visible(person, shot_of(FRONT, occluder="pole", pole_side=-1))
    beside_pole = visible(person, shot_of(FRONT, occluder="pole", pole_side=1))
    assert "item" not in behind_pole and "item" in beside_pole


def test_what_is_said_to_be_visible_changes_the_picture(person):
    """Each visible attribute is drawn: another value gives another picture."""
    draw = lambda who, shot: np.asarray(draw_person(who, shot, np.random.default_rng(1)), int)  # noqa: E731
    others = {
        "hair_style": "long",
        "hair_color": "blond",
        "eyewear": "sunglasses",
        "top": "sweater",
        "top_color": "white" if person.top_color != "white" else "black",
        "bottom_color": "white" if person.bottom_color != "white" else "black",
        "shoes_color": "white" if person.shoes_color != "white" else "black",
        "bag_color": "yellow",
        "item": "ball",
        "item_color": "white",
    }
    for view in (FRONT, BACK, SIDE):
        shot = shot_of(view)
        before = draw(person, shot)
        for field in visible(person, shot).keys() & others.keys():
            changed = np.abs(before - draw(person._replace(**{field: others[field]}), shot)) > 40
            assert changed.any(-1).sum() >= 6, (view, field)


# What is said


def test_captions_state_only_what_the_image_shows(many):
    for identity, shot, caption in many:
        seen = visible(identity, shot)
        for field, value in caption.stated:
            assert value != NONE
            assert seen.get(field) == value, (caption, field)


def read_colors(text):
    """The colours of clothes named in a text, resolved to the twelve, hair left out."""
    text = re.sub(r"\w+(?= (hair|bob|bun|ponytail)\b)", "", text)  # red hair is no garment
    text = re.sub(r"dark sunglasses", "", text)
    named = {word: color for color, words in lexicon.COLOR_WORDS.items() for word in words}
    pattern = "|".join(sorted(named, key=len, reverse=True))
    return {named[word] for word in re.findall(rf"\b({pattern})\b", text)}


def test_the_words_name_the_colors_that_are_stated_and_no_others(many):
    """Reads colours back from the text, without the generator's own account of it."""
    for _, _, caption in many:
        stated = {v for f, v in caption.stated if f.endswith("_color") and f != "hair_color"}
        assert read_colors(caption.text.lower()) == stated, caption


# Nouns that name one kind only, so that reading them back needs no grammar.
NOUNS = {
    "cap": ("headwear", "cap"),
    "beanie": ("headwear", "beanie"),
    "spectacles": ("eyewear", "glasses"),
    "eyeglasses": ("eyewear", "glasses"),
    "sunglasses": ("eyewear", "sunglasses"),
    "shades": ("eyewear", "sunglasses"),
    "beard": ("beard", "beard"),
    "scarf": ("scarf", "scarf"),
    "shawl": ("scarf", "scarf"),
    "tee": ("top", "t-shirt"),
    "t-shirt": ("top", "t-shirt"),
    "sweater": ("top", "sweater"),
    "pullover": ("top", "sweater"),
    "jumper": ("top", "sweater"),
    "tank": ("top", "tank top"),
    "singlet": ("top", "tank top"),
    "hoodie": ("top", "hoodie"),
    "sweatshirt": ("top", "hoodie"),
    "dress": ("top", "dress"),
    "frock": ("top", "dress"),
    "jacket": ("outer", "jacket"),
    "windbreaker": ("outer", "jacket"),
    "coat": ("outer", "coat"),
    "overcoat": ("outer", "coat"),
    "vest": ("outer", "vest"),
    "waistcoat": ("outer", "vest"),
    "trousers": ("bottom", "trousers"),
    "slacks": ("bottom", "trousers"),
    "shorts": ("bottom", "shorts"),
    "skirt": ("bottom", "skirt"),
    "sneakers": ("shoes", "sneakers"),
    "trainers": ("shoes", "sneakers"),
    "boots": ("shoes", "boots"),
    "sandals": ("shoes", "sandals"),
    "backpack": ("bag", "backpack"),
    "rucksack": ("bag", "backpack"),
    "handbag": ("bag", "handbag"),
    "purse": ("bag", "handbag"),
    "crossbody": ("bag", "messenger bag"),
    "messenger": ("bag", "messenger bag"),
    "suitcase": ("bag", "suitcase"),
    "trolley": ("bag", "suitcase"),
    "umbrella": ("item", "umbrella"),
    "bottle": ("item", "bottle"),
    "book": ("item", "book"),
    "notebook": ("item", "book"),
    "ball": ("item", "ball"),
    "shopping": ("item", "shopping bag"),
    "paper": ("item", "shopping bag"),
    "ponytail": ("hair_style", "ponytail"),
    "bun": ("hair_style", "bun"),
    "shaved": ("hair_style", "bald"),
    "stripes": ("top_pattern", "striped"),
    "striped": ("top_pattern", "striped"),
    "dots": ("top_pattern", "dotted"),
    "dotted": ("top_pattern", "dotted"),
    "checkered": ("top_pattern", "checkered"),
    "printed": ("top_pattern", "printed"),
    "plain": ("top_pattern", "plain"),
}


def test_the_things_named_are_visible_and_are_the_stated_ones(many):
    """Reads things back from the text by a table of its own."""
    named = Counter()
    for identity, shot, caption in many:
        seen = visible(identity, shot)
        words = set(clean_caption(caption.text).replace(",", " ").split())
        things = {NOUNS[word] for word in words & NOUNS.keys()}
        named.update(things)
        assert things <= set(caption.stated), caption
        assert all(seen[field] == value for field, value in things)
    assert set(named) == set(NOUNS.values())  # every kind of thing occurs


def test_length_of_captions(many):
    tokenizer = Tokenizer(VOCAB_PATH)
    words = [len(c.text.split()) for _, _, c in many]
    pieces = [len(tokenizer.split(clean_caption(c.text))[0]) for _, _, c in many]
    assert MIN_WORDS <= min(words) and max(words) <= MAX_WORDS
    assert max(pieces) <= MAX_PIECES
    assert pieces == [count_pieces(c.text.lower()) for _, _, c in many]


def test_about_a_fifth_of_what_shows_is_left_out(many):
    said = sum(len(caption.stated) for _, _, caption in many)
    shown = sum(sum(v != NONE for v in visible(i, s).values()) for i, s, _ in many)
    assert 0.15 < 1 - said / shown < 0.25


def test_the_two_captions_of_an_image_are_worded_differently(many):
    texts = [caption.text for _, _, caption in many]
    same = sum(a == b for a, b in zip(texts[::2], texts[1::2], strict=True))
    assert same == 0
    assert len(set(texts)) > 0.99 * len(texts)


def test_captions_are_sentences(many):
    for _, _, caption in many:
        assert re.fullmatch(r"[A-Z][^.{}]*(\. [A-Z][^.{}]*)*\.", caption.text), caption.text
        assert not re.search(r"  | ,|\ba [aeio]|\ban [^aeiou]|None|none", caption.text), (
            caption.text
        )


def test_a_person_of_whom_little_shows_still_has_a_caption(person):
    bare = person._replace(
        eyewear=NONE, beard=NONE, scarf=NONE, scarf_color=NONE, bag=NONE, bag_color=NONE
    )
    bare = bare._replace(item=NONE, item_color=NONE)
    for seed in range(50):
        caption = write_caption(bare, shot_of(BACK, cropped=True), np.random.default_rng(seed))
        assert MIN_WORDS <= len(caption.text.split()) <= MAX_WORDS


# Vocabulary


def test_the_shipped_vocabulary_is_the_one_that_is_built():
    assert VOCAB_PATH.read_text(encoding="ascii") == "\n".join(build_vocabulary()) + "\n"


def test_any_ascii_text_has_no_unknown_token():
    tokenizer = Tokenizer(VOCAB_PATH)
    unknown = tokenizer.vocabulary["[UNK]"]
    text = "zxqj 42nd-street's T-SHIRT @ $9,99 " + "".join(map(chr, range(33, 127)))
    assert unknown not in tokenizer.split(text)[1]
    assert len(tokenizer.split("woman")[0]) == 1


# Repeatable, image by image


def digest(example):
    text = "".join(c.text for c in example.captions)
    return hashlib.sha256(example.jpeg + text.encode()).hexdigest()


def test_examples_do_not_depend_on_the_order_they_are_made_in():
    forward = {(e.person, e.image): digest(e) for e in generate(TINY, "val")}
    persons = make_identities(TINY, "val")
    for person, image in reversed(forward):
        example = make_example(TINY, "val", persons[person], person, image)
        assert digest(example) == forward[person, image]
    assert len(set(forward.values())) == len(forward) == 24


def test_seed_and_split_change_everything():
    digests = {
        digest(next(generate(settings, split)))
        for settings in (TINY, replace(TINY, seed=9))
        for split in SPLITS
    }
    assert len(digests) == 6


def test_more_persons_leave_the_first_ones_as_they_are():
    more = replace(TINY, train_persons=40)
    assert make_identities(more, "train")[:24] == make_identities(TINY, "train")


def test_images_are_small_color_jpegs_with_contents():
    for example in generate(TINY, "test"):
        with Image.open(io.BytesIO(example.jpeg)) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (48, 96))
            assert np.asarray(image).std() > 15


def test_colors_are_far_apart():
    values = np.array(list(COLORS.values()), float)
    distance = np.linalg.norm(values[:, None] - values[None], axis=-1)
    assert distance[~np.eye(len(values), dtype=bool)].min() > 70
