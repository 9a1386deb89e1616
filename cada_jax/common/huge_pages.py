"""Memory in pages of 2 MiB that a process keeps, which only its environment can ask for.

XLA's CPU backend allocates the temporary memory of a program, hundreds of MB, at every call. The C
library takes such blocks from the system and gives them back at once, so that every training step
has its memory cleared page by page anew. In pages of 4 KiB that was a quarter of a step of the
demo; in huge pages it still was an eighth.
"""

import os
import sys
from collections.abc import Mapping

VARIABLE = "GLIBC_TUNABLES"
HUGE = "glibc.malloc.hugetlb=1"
# One arena, since blocks that are larger than 64 MB are kept in the first one alone; and no block
# is large enough to be given back.
_NEVER = 1 << 40
KEPT = (
    "glibc.malloc.arena_max=1",
    f"glibc.malloc.mmap_threshold={_NEVER}",
    f"glibc.malloc.trim_threshold={_NEVER}",
)
FEW_CPUS = 16  # with more, the threads that read images might wait for the one arena's lock
KERNEL = "/sys/kernel/mm/transparent_hugepage/enabled"


def settings(environment: Mapping[str, str], libc: str, kernel: str, cpus: int) -> str:
    """The value of `VARIABLE` that serves a process here, "" where there is nothing to ask for.

    Args:
      environment: that names the variable already, with whatever value, is left as it is.
      libc: as `os.confstr` tells: "glibc 2.36". The settings came with 2.35.
      kernel: what `KERNEL` holds: "always [madvise] never". Where it is "always", huge pages need
        not be asked for; where it is "never", they are not to be had.
      cpus: that the process may use.
    """
    name, _, version = libc.partition(" ")
    numbers = version.split(".")[:2]
    if name != "glibc" or not all(x.isdigit() for x in numbers) or VARIABLE in environment:
        return ""
    if tuple(map(int, numbers)) < (2, 35):
        return ""
    asked = [HUGE] if "[madvise]" in kernel else []
    return ":".join([*asked, *(KEPT if cpus <= FEW_CPUS else ())])


def restart_with_huge_pages() -> None:
    """Starts the program again in this process with `settings`, where there are any.

    To be called first, before threads and open files are there. The process keeps its number. The
    variable `GLIBC_TUNABLES` marks that it is done; a user who sets it, to nothing too, has their
    own way.
    """
    try:
        with open(KERNEL, encoding="ascii") as file:
            kernel = file.read()
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
        cpus = len(os.sched_getaffinity(0))
    except (OSError, ValueError, AttributeError):  # another system, or another C library
        return
    value = settings(os.environ, libc, kernel, cpus)
    if sys.executable and value:
        command = [sys.executable, *sys.orig_argv[1:]]
        try:
            os.execve(sys.executable, command, {**os.environ, VARIABLE: value})
        except OSError:
            return
