"""Memory of a CPU's programs, kept from one call to the next.

XLA takes the temporary memory of a program, hundreds of MB, from the C library at every call, and
that takes it from the system, which clears it page by page: a quarter of the processor's time in a
training step of the demo.
"""

import ctypes
import os

# Of malloc.h. Blocks of up to 1 GiB are kept. Larger ones, of full-size models, are given back as
# ever: where sizes differ, holes between such blocks would be more than a machine has to spare.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
SETTINGS = {M_MMAP_THRESHOLD: 1 << 30, M_TRIM_THRESHOLD: (1 << 31) - 1}
FEW_CPUS = 16  # every thread keeps what it once had; with more there may be hundreds of threads


def keep_memory() -> bool:
    """Has the C library keep large blocks, where it can and there are few CPUs.

    The C library keeps them for the main thread alone. So JAX runs a CPU's programs in the thread
    that calls them, in place of threads of its own; programs of several devices run as ever. To be
    called before JAX's devices are used.

    Returns:
      Whether memory is kept.
    """
    try:
        few = len(os.sched_getaffinity(0)) <= FEW_CPUS
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another system, or another C library
        return False
    if not few or not all(mallopt(name, value) for name, value in SETTINGS.items()):
        return False
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return True
