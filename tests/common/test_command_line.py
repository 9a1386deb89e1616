"""Every command ends with a code and, for what its user can mend, with one line."""

import errno
import subprocess
import sys

import pytest

from cada_jax.common.command_line import run_command
from cada_jax.common.errors import MissingFileError, UsageError


def raising(error):
    def work():
        raise error

    return work


def test_the_code_of_the_work_is_returned():
    assert run_command(lambda: 1) == 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("x has to be 3"), 2, "error: x has to be 3\n"),
        (MissingFileError("no file y"), 2, "error: no file y\n"),
        (KeyboardInterrupt(), 130, "Stopped.\n"),
        (BrokenPipeError(), 141, ""),
        (SystemExit(2), 2, ""),
        (SystemExit(None), 0, ""),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.svg"),
            2,
            "error: cannot write a.svg: No space left on device\n",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_a_code(capsys, error, code, line):
    assert run_command(raising(error)) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EBADF, "a bug")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error), match="a bug"):
        run_command(raising(error))


SAYS_MUCH = (
    "import sys; from cada_jax.common.command_line import run_command;"
    "sys.exit(run_command(lambda: print('x' * 100_000) or 0))"
)


def test_a_reader_that_left_gets_no_traceback():
    ran = subprocess.Popen(
        [sys.executable, "-c", SAYS_MUCH], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    ran.stdout.close()
    assert ran.stderr.read() == b""
    assert ran.wait() == 141


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        ran = subprocess.run([sys.executable, "-c", SAYS_MUCH], stdout=full, stderr=subprocess.PIPE)
    assert ran.returncode == 2
    assert ran.stderr == b"error: cannot write the output: No space left on device\n"


def test_a_closed_stdout_is_no_error():
    ran = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "{SAYS_MUCH}" >&-'], stderr=subprocess.PIPE
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
