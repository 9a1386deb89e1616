"""The program asks for huge pages where it can get them, and leaves what a user has set."""

import os
import pathlib
import subprocess
import sys

import pytest

from cada_jax.common.huge_pages import (
    KERNEL,
    VALUE,
    VARIABLE,
    restart_with_huge_pages,
    wanted,
)

MADVISE = "always [madvise] never\n"
# Prints the process, the variable and the arguments, at the start and again after it.
SCRIPT = """
import os, sys
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), *sys.argv[1:], flush=True)
from cada_jax.common.huge_pages import restart_with_huge_pages
restart_with_huge_pages()
print("on", flush=True)
"""


@pytest.mark.parametrize(
    ("environment", "libc", "kernel", "expected"),
    [
        ({}, "glibc 2.35", MADVISE, True),
        ({"OTHER": "1"}, "glibc 2.41", MADVISE, True),
        ({}, "glibc 3.0", MADVISE, True),
        ({}, "glibc 2.34", MADVISE, False),
        ({}, "musl 1.2", MADVISE, False),
        ({}, "glibc", MADVISE, False),
        ({}, "", MADVISE, False),
        ({}, "glibc 2.36", "[always] madvise never\n", False),
        ({}, "glibc 2.36", "always madvise [never]\n", False),
        ({VARIABLE: ""}, "glibc 2.36", MADVISE, False),
        ({VARIABLE: "glibc.malloc.tcache_count=0"}, "glibc 2.36", MADVISE, False),
    ],
)
def test_huge_pages_are_asked_for_where_they_can_be_had(environment, libc, kernel, expected):
    assert wanted(environment, libc, kernel) is expected


def wanted_here():
    """Whether a process on this machine is to be started again."""
    try:
        kernel = pathlib.Path(KERNEL).read_text()
    except OSError:
        return False
    return wanted({}, os.confstr("CS_GNU_LIBC_VERSION") or "", kernel)


def started(environment):
    command = [sys.executable, "-c", SCRIPT, "an argument", "--flag=ü"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def test_the_program_starts_at_most_once_more_with_its_arguments_and_number():
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    *starts, last = started(environment)
    number = starts[0].split()[0]
    expected = [f"{number} {value} an argument --flag=ü" for value in (None, VALUE)]
    assert starts == (expected if wanted_here() else expected[:1])
    assert last == "on"


def test_what_a_user_has_set_stays():
    start, last = started({**os.environ, VARIABLE: ""})
    assert start.split(maxsplit=1)[1] == "an argument --flag=ü"
    assert last == "on"


def test_a_program_that_cannot_be_started_again_goes_on(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    restart_with_huge_pages()
