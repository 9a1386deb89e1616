"""The program asks for huge pages where it can get them, and leaves what a user has set."""

import os
import pathlib
import subprocess
import sys

import pytest

from cada_jax.common.huge_pages import (
    HUGE,
    KEPT,
    KERNEL,
    VARIABLE,
    restart_with_huge_pages,
    settings,
)

MADVISE = "always [madvise] never\n"
kept = ":".join(KEPT)
# Prints the process, the variable and the arguments, at the start and again after it.
SCRIPT = """
import os, sys
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), *sys.argv[1:], flush=True)
from cada_jax.common.huge_pages import restart_with_huge_pages
restart_with_huge_pages()
print("on", flush=True)
"""
ALLOCATE = """
import ctypes, resource, sys, threading
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def work():
    for _ in range(int(sys.argv[1])):
        block = libc.malloc(100 << 20)
        libc.memset(block, 1, 100 << 20)
        libc.free(block)
thread = threading.Thread(target=work)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def glibc_of_the_settings():
    """Whether this process's C library knows the settings."""
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    return name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)


@pytest.mark.parametrize(
    ("environment", "libc", "kernel", "cpus", "expected"),
    [
        ({}, "glibc 2.35", MADVISE, 64, HUGE),
        ({"OTHER": "1"}, "glibc 2.41", MADVISE, 64, HUGE),
        ({}, "glibc 3.0", MADVISE, 17, HUGE),
        ({}, "glibc 2.36", MADVISE, 2, f"{HUGE}:{kept}"),
        ({}, "glibc 2.36", "[always] madvise never\n", 16, kept),
        ({}, "glibc 2.36", "always madvise [never]\n", 1, kept),
        ({}, "glibc 2.36", "[always] madvise never\n", 64, ""),
        ({}, "glibc 2.36", "always madvise [never]\n", 64, ""),
        ({}, "glibc 2.34", MADVISE, 2, ""),
        ({}, "musl 1.2", MADVISE, 2, ""),
        ({}, "glibc", MADVISE, 2, ""),
        ({}, "", MADVISE, 2, ""),
        ({VARIABLE: ""}, "glibc 2.36", MADVISE, 2, ""),
        ({VARIABLE: "glibc.malloc.tcache_count=0"}, "glibc 2.36", MADVISE, 2, ""),
    ],
)
def test_what_is_asked_for(environment, libc, kernel, cpus, expected):
    assert settings(environment, libc, kernel, cpus) == expected


def page_faults(tunables, times):
    """Of taking, writing and freeing 100 MiB so many times, in a thread that is not the first."""
    environment = {**os.environ, VARIABLE: tunables}
    command = [sys.executable, "-c", ALLOCATE, str(times)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(not glibc_of_the_settings(), reason="another C library, or an old one")
def test_memory_is_kept():
    # 100 MiB are 25,600 small pages; or 50 huge ones, and up to 1,024 small ones at the edges. They
    # are cleared once, not every time.
    assert page_faults(kept, 20) < page_faults("", 20) / 10
    assert page_faults(f"{HUGE}:{kept}", 100) < page_faults(HUGE, 100) / 2


def asked_for_here():
    """What a process on this machine is to be started again with, if anything."""
    try:
        kernel = pathlib.Path(KERNEL).read_text()
    except OSError:
        return ""
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    return settings({}, libc, kernel, len(os.sched_getaffinity(0)))


def started(environment):
    command = [sys.executable, "-c", SCRIPT, "an argument", "--flag=ü"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def test_the_program_starts_at_most_once_more_with_its_arguments_and_number():
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    *starts, last = started(environment)
    number = starts[0].split()[0]
    expected = [f"{number} {value} an argument --flag=ü" for value in (None, asked_for_here())]
    assert starts == (expected if asked_for_here() else expected[:1])
    assert last == "on"


def test_what_a_user_has_set_stays():
    start, last = started({**os.environ, VARIABLE: ""})
    assert start.split(maxsplit=1)[1] == "an argument --flag=ü"
    assert last == "on"


def test_a_program_that_cannot_be_started_again_goes_on(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    restart_with_huge_pages()
