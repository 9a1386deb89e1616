"""The documents: links lead somewhere, commands, flags, fields and paths that they name exist."""

import ast
import textwrap

import pytest

from tests.documents import (
    CONFIG_FILE,
    DOCUMENTS,
    FENCE,
    ROOT,
    broken_links,
    missing_paths,
    read,
    wrong_commands,
    wrong_fields,
)

README_LINES = 160


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    assert broken_links(document, read(document)) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_and_its_flags_exist(document):
    assert wrong_commands(read(document)) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_field_that_is_named_exists(document, load_config):
    allowed = {"loss.length_weight"}  # what the guide shows how to add
    found = set(wrong_fields(read(document), load_config("default")))
    assert found - (allowed if document.endswith("CONTRIBUTING.md") else set()) == set()


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d != "CHANGELOG.md"])
def test_every_path_that_is_named_exists(document):
    new = {
        "cada_jax/data/datasets/mypeople/builder.py",
        "cada_jax/objective/length.py",
    }  # what the guide shows how to add
    found = set(missing_paths(read(document)))
    assert found - (new if document.endswith("CONTRIBUTING.md") else set()) == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_configuration_and_variant_that_is_named_exists(document, load_config):
    for name, variant in set(CONFIG_FILE.findall(read(document))):
        load_config(name, *([variant] if variant.islower() or variant[:1].isdigit() else []))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_in_a_document_can_be_parsed(document):
    for _, language, body in FENCE.findall((ROOT / document).read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(textwrap.dedent(body))


def test_the_loss_that_the_guide_adds_is_the_one_that_a_test_adds():
    guide = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = next(body for _, _, body in FENCE.findall(guide) if "RowLoss(" in body)
    added = (ROOT / "tests" / "objective" / "test_new_loss.py").read_text(encoding="utf-8")
    assert textwrap.dedent(shown).strip() in added


def test_the_readme_is_a_door():
    lines = len((ROOT / "README.md").read_text(encoding="utf-8").splitlines())
    assert lines <= README_LINES


def test_the_readme_keeps_its_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    demo = "python -m cada_jax.main --config=configs/synthetic.py --workdir=runs/demo"
    tests = (
        "pip install torch==2.13.0 && pip install -e '.[dev,search,torch]' && python -m pytest -q"
    )
    blocks = [body.strip() for _, _, body in FENCE.findall(text)]
    assert tests in blocks
    assert any(b.startswith("git clone") and b.endswith(demo) and "\n" not in b for b in blocks)


# What follows shows that the checks can fail.


@pytest.mark.parametrize(
    "link", ["no_such_file.md", "../README.md", "LICENSE#no-such-heading", "#no-such-heading"]
)
def test_a_broken_link_is_noticed(link):
    assert broken_links("README.md", f"See [this]({link}).") == [link]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`python -m cada_jax.no_such --x`", "python -m cada_jax.no_such"),
        ("python tools/no_such.py", "python -m tools.no_such"),
        ("python -m cada_jax.main --no_such=1  # --config", "cada_jax.main --no_such"),
        ("| `python tools/check_parity.py \\\n--no_such` |", "tools.check_parity --no_such"),
    ],
)
def test_a_command_that_is_not_there_is_noticed(text, wrong):
    assert wrong_commands(text.replace("\\\n", " ")) == [wrong]


@pytest.mark.parametrize(
    "text", ["--config.train.bach_size=4", "`config.no_such`", "--set train.no_such=2 seed.x=1"]
)
def test_a_field_that_is_not_there_is_noticed(text, load_config):
    assert wrong_fields(text, load_config("default"))


def test_a_path_that_is_not_there_is_noticed():
    text = "`tests/test_no_such.py`, [x](../../tools/none), `tools/parity` and cada_jax/config"
    assert missing_paths(text) == ["tests/test_no_such.py"]
