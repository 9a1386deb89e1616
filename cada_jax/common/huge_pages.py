"""Memory of a CPU's programs: in pages of 2 MiB, and kept from one call to the next.

XLA takes the temporary memory of a program, hundreds of MB, from the C library at every call, and
that takes it from the system, which clears it page by page. On a CPU that was a quarter of a
training step of the demo with pages of 4 KiB, and a sixth of the processor's time with huge ones.
Only the environment of a process can ask the C library for anything else.
"""

import os
import sys
from collections.abc import Mapping

VARIABLE = "GLIBC_TUNABLES"
HUGE = "glibc.malloc.hugetlb=1"
# Blocks of up to 1 GiB are kept. Larger ones, of full-size models, are given back as ever: where
# sizes differ, holes between such blocks would be more than a machine has to spare.
KEPT = f"glibc.malloc.mmap_threshold={1 << 30}:glibc.malloc.trim_threshold={1 << 31}"
FEW_CPUS = 16  # every thread keeps what it once had; with more there may be hundreds of threads
KERNEL = "/sys/kernel/mm/transparent_hugepage/enabled"


def settings(environment: Mapping[str, str], libc: str, kernel: str, cpus: int) -> str:
    """What the variable should hold here, "" where there is nothing to ask for.

    Args:
      environment: that names the variable already, with whatever value, is left as it is.
      libc: as `os.confstr` tells: "glibc 2.36". The settings came with 2.35.
      kernel: what `KERNEL` holds: "always [madvise] never". Of "always" huge pages need not be
        asked for, of "never" there are none.
      cpus: that the process may use.
    """
    name, _, version = libc.partition(" ")
    numbers = version.split(".")[:2]
    if name != "glibc" or not all(x.isdigit() for x in numbers) or VARIABLE in environment:
        return ""
    if tuple(map(int, numbers)) < (2, 35):
        return ""
    return ":".join([HUGE] * ("[madvise]" in kernel) + [KEPT] * (cpus <= FEW_CPUS))


def restart_with_settings() -> None:
    """Starts the program again in this process with `settings`, where there are any.

    To be called first, before threads and open files are there. The process keeps its number. The
    variable `GLIBC_TUNABLES` marks that it is done; a user who sets it, to nothing too, has their
    own way.
    """
    try:
        with open(KERNEL, encoding="ascii") as file:
            kernel = file.read()
        libc, cpus = os.confstr("CS_GNU_LIBC_VERSION") or "", len(os.sched_getaffinity(0))
    except (OSError, ValueError, AttributeError):  # another system, or another C library
        return
    value = settings(os.environ, libc, kernel, cpus)
    if sys.executable and value:
        command = [sys.executable, *sys.orig_argv[1:]]
        try:
            os.execve(sys.executable, command, {**os.environ, VARIABLE: value})
        except OSError:
            return


def run_where_memory_is_kept() -> None:
    """Has JAX run a CPU's programs in the thread that calls them, if the settings keep memory.

    The C library keeps large blocks for the main thread alone. JAX otherwise runs a program in
    threads of its own. To give all threads the memory of the main one (one arena) is no way out:
    they wait for each other, and a step took half longer in a process that had compiled it.

    To be called before JAX's devices are used. Programs of several devices run as ever.
    """
    if KEPT in os.environ.get(VARIABLE, ""):
        import jax

        jax.config.update("jax_cpu_enable_async_dispatch", False)
