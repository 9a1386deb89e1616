"""The notebook runs from its first cell to its last."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "tools" / "notebooks" / "search.ipynb"


@pytest.fixture(scope="module")
def executed():
    """The notebook with the outputs of this run."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(REPOSITORY)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()
    return notebook


def outputs(notebook, kind: str) -> list:
    return [
        output["data"][kind]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if kind in output.get("data", {})
    ]


def test_every_cell_runs_and_draws(executed):
    assert len(outputs(executed, "image/png")) == 3  # hits, hits of an index, association maps
    printed = "".join(
        output["text"]
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream" and output["name"] == "stdout"
    )
    assert "the first picture shows the person described" in printed
    assert "expected at least one word" in printed


def test_the_notebook_is_kept_with_the_outputs_that_a_reader_sees():
    assert len(outputs(nbformat.read(NOTEBOOK, as_version=4), "image/png")) == 3
