"""The resume check empties no folder but its own."""

import pytest

from cada_jax.common.errors import UsageError
from tools import check_resume


def made(root):
    """A folder as a check leaves it."""
    check_resume.claim(root)
    for name in check_resume.RUNS:
        (root / name / "checkpoints").mkdir(parents=True)
        (root / f"{name}.log").write_text("step 1")
    return root


@pytest.mark.parametrize("name", ["new", "deep/and/new", "empty"])
def test_a_new_or_empty_folder_is_claimed(tmp_path, name):
    (tmp_path / "empty").mkdir()
    check_resume.claim(tmp_path / name)
    assert [p.name for p in (tmp_path / name).iterdir()] == [check_resume.MARKER]


def test_a_folder_of_an_earlier_check_is_emptied(tmp_path):
    root = made(tmp_path / "runs")
    check_resume.claim(root)
    assert [p.name for p in root.iterdir()] == [check_resume.MARKER]


@pytest.mark.parametrize("foreign", ["thesis.tex", "results", ".hidden"])
@pytest.mark.parametrize("marked", [True, False])
def test_a_folder_that_holds_something_else_keeps_everything(tmp_path, foreign, marked):
    root = made(tmp_path / "runs")
    (root / foreign).write_text("mine")
    if not marked:
        (root / check_resume.MARKER).unlink()
    before = sorted(root.rglob("*"))
    with pytest.raises(UsageError, match="did not write: nothing was removed"):
        check_resume.claim(root)
    assert sorted(root.rglob("*")) == before


def test_a_run_of_the_user_is_no_check_of_ours_even_with_our_names(tmp_path):
    root = made(tmp_path / "runs")
    (root / check_resume.MARKER).unlink()
    with pytest.raises(UsageError, match="killed"):
        check_resume.claim(root)
    assert (root / "straight" / "checkpoints").is_dir()


def test_what_a_link_leads_to_is_kept(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "paper.tex").write_text("x")
    root = tmp_path / "runs"
    check_resume.claim(root)
    (root / "killed").symlink_to(tmp_path / "mine")
    with pytest.raises(UsageError, match="'killed'"):
        check_resume.claim(root)
    assert (tmp_path / "mine" / "paper.tex").exists()
