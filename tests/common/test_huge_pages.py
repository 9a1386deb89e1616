"""The program asks for huge pages and keeps its memory where it can, and leaves what a user set."""

import os
import pathlib
import subprocess
import sys

import pytest

from cada_jax.common.huge_pages import (
    FEW_CPUS,
    HUGE,
    KEPT,
    KERNEL,
    VARIABLE,
    restart_with_settings,
    settings,
)

ALWAYS, MADVISE = "[always] madvise never\n", "always [madvise] never\n"
NEVER = "always madvise [never]\n"
BOTH = f"{HUGE}:{KEPT}"
MANY = FEW_CPUS + 1
# Prints the process, the variable and the arguments, at the start and again after it.
SCRIPT = """
import os, sys
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), *sys.argv[1:], flush=True)
from cada_jax.common.huge_pages import restart_with_settings
restart_with_settings()
print("on", flush=True)
"""
# Page faults of 20 calls of a program with 80 MB of temporary memory.
FAULTS = """
import resource
from cada_jax.common.huge_pages import run_where_memory_is_kept
run_where_memory_is_kept()
import jax
import jax.numpy as jnp
f = jax.jit(lambda x: jnp.sin(x) @ jnp.ones((2000, 8)))
x = jnp.ones((10_000, 2000))
for _ in range(5):
    f(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    f(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize(
    ("environment", "libc", "kernel", "cpus", "expected"),
    [
        ({}, "glibc 2.35", MADVISE, 2, BOTH),
        ({"OTHER": "1"}, "glibc 2.41", MADVISE, FEW_CPUS, BOTH),
        ({}, "glibc 3.0", MADVISE, MANY, HUGE),
        ({}, "glibc 2.36", ALWAYS, 2, KEPT),
        ({}, "glibc 2.36", NEVER, 2, KEPT),
        ({}, "glibc 2.36", NEVER, MANY, ""),
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


def settings_here():
    """What a process on this machine is to be started again with."""
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
    expected = [f"{number} {value} an argument --flag=ü" for value in (None, settings_here())]
    assert starts == (expected if settings_here() else expected[:1])
    assert last == "on"


def test_what_a_user_has_set_stays():
    start, last = started({**os.environ, VARIABLE: ""})
    assert start.split(maxsplit=1)[1] == "an argument --flag=ü"
    assert last == "on"


def test_a_program_that_cannot_be_started_again_goes_on(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    restart_with_settings()


@pytest.mark.skipif(KEPT not in settings_here(), reason="this machine's settings keep nothing")
def test_a_programs_temporary_memory_is_not_taken_from_the_system_at_every_call():
    def faults(value):
        environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {VARIABLE: value}
        command = [sys.executable, "-c", FAULTS]
        return int(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)

    assert faults(KEPT) < faults("") / 5  # not at every call
