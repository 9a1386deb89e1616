"""Every command ends with a code and, for what its user can mend, with one line."""

import errno
import pathlib
import subprocess
import sys

import pytest

from cada_jax.common.command_line import Flags, run_command
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
    ],
)
def test_what_a_user_can_mend_is_one_line_and_a_code(capsys, error, code, line):
    assert run_command(raising(error)) == code
    assert capsys.readouterr().err == line


def test_any_other_error_is_one_line_that_names_its_file_and_where_its_traceback_lies(capsys):
    assert run_command(raising(OSError(errno.ENOSPC, "No space left on device", "a.svg"))) == 2
    line = capsys.readouterr().err
    said, log = line.removesuffix(")\n").split(" (details: ")
    assert said == "error: a.svg: OSError: No space left on device"
    assert "Traceback" in pathlib.Path(log).read_text()


SAYS_MUCH = (
    "import sys; from cada_jax.common.command_line import Flags, run_command;"
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
    assert ran.stderr.startswith(b"error: OSError: No space left on device (")


def test_a_closed_stdout_is_no_error():
    ran = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "{SAYS_MUCH}" >&-'], stderr=subprocess.PIPE
    )
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_a_negative_number_is_a_value_although_a_digit_is_a_flag():
    parser = Flags("cada_jax search", None)
    parser.add_argument("-0", dest="nul", action="store_true")
    parser.add_argument("--min_score", type=float)
    flags = parser.parse_args(["-0", "--min_score", "-2.5"])
    assert flags.nul and flags.min_score == -2.5
