"""Memory in pages of 2 MiB, which only the environment of a process can ask the C library for."""

import os
import sys
from collections.abc import Mapping

VARIABLE, VALUE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
KERNEL = "/sys/kernel/mm/transparent_hugepage/enabled"


def wanted(environment: Mapping[str, str], libc: str, kernel: str) -> bool:
    """Whether a process with the variable set would get huge pages that this one does not.

    Args:
      environment: that names the variable already, with whatever value, is left as it is.
      libc: as `os.confstr` tells: "glibc 2.36". The setting came with 2.35.
      kernel: what `KERNEL` holds: "always [madvise] never". Of "always" there is nothing to ask,
        of "never" nothing to get.
    """
    name, _, version = libc.partition(" ")
    numbers = version.split(".")[:2]
    if name != "glibc" or not all(x.isdigit() for x in numbers):
        return False
    new = tuple(map(int, numbers)) >= (2, 35)
    return new and "[madvise]" in kernel and VARIABLE not in environment


def restart_with_huge_pages() -> None:
    """Starts the program again in this process, its memory in huge pages, where that can be had.

    XLA takes the temporary memory of a program, hundreds of MB, from the system at every call. On a
    CPU every page of 4 KiB of it costs an interruption: a quarter of a training step of the demo.
    To have the C library keep that memory (one arena, no thresholds) spares the huge pages as well,
    308 a step. But in a process that has compiled a program, a step then took 280 to 360 ms on two
    cores, one from the compilation cache too, where huge pages alone have 190 to 220.

    To be called first, before threads and open files are there. The process keeps its number. The
    variable `GLIBC_TUNABLES` marks that it is done; a user who sets it, to nothing too, has their
    own way.
    """
    try:
        with open(KERNEL, encoding="ascii") as file:
            kernel = file.read()
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError, AttributeError):  # another system, or another C library
        return
    if sys.executable and wanted(os.environ, libc, kernel):
        command = [sys.executable, *sys.orig_argv[1:]]
        try:
            os.execve(sys.executable, command, {**os.environ, VARIABLE: VALUE})
        except OSError:
            return
