"""The commands as a user runs them: a folder is indexed while the gallery is served."""

import pytest

from tools.bench.serve_beside import measure


@pytest.mark.slow
def test_pictures_indexed_beside_a_served_gallery_are_found(tmp_path):
    row = measure(tmp_path, count=30, clients=2, alone=1)
    assert row["found"] == row["count"] == 30 and row["errors"] == 0
    assert row["requests"] > 0 and row["noticed_seconds"] <= 2
