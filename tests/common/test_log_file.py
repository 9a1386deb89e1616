"""The console keeps to the reason; what libraries say of it is in a file."""

import logging
import threading

import pytest
from absl import logging as absl_logging

from cada_jax.common import log_file


@pytest.fixture(autouse=True)
def quiet_console():
    """As `cada_jax.main` has it without --verbosity."""
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.WARNING)
    yield
    absl_logging.set_verbosity(before)


def _die():
    raise KeyError("a thread's own")


def test_log_lines_and_tracebacks_of_threads_go_to_the_file_alone(tmp_path, capfd):
    absl_logging.use_absl_handler()
    with log_file.quiet_libraries(tmp_path):
        absl_logging.error("of a library")
        thread = threading.Thread(target=_die)
        thread.start()
        thread.join()
    written = (tmp_path / log_file.LOG_FILE).read_text()
    assert "ERROR absl: of a library" in written and 'KeyError: "a thread\'s own"' in written
    assert capfd.readouterr().err == ""
    absl_logging.error("after it")
    assert "after it" in capfd.readouterr().err


def test_no_file_appears_when_nothing_is_said(tmp_path):
    with log_file.quiet_libraries(tmp_path):
        logging.getLogger("quiet").info("not a warning")
    assert not list(tmp_path.iterdir())


def test_blocks_may_overlap_and_the_last_to_end_gives_the_console_back(tmp_path):
    handlers = set(logging.getLogger().handlers)
    first, second = (log_file.quiet_libraries(tmp_path / str(i)) for i in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(logging.getLogger().handlers) != handlers
    second.__exit__(None, None, None)
    assert set(logging.getLogger().handlers) == handlers


def test_a_traceback_goes_to_the_temporary_folder_where_the_folder_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(log_file.tempfile, "tempdir", str(tmp_path))
    try:
        _die()
    except KeyError as e:
        file = log_file.record(tmp_path / "none", e)
    assert file.parent == tmp_path and "in _die" in file.read_text()
