"""Memory that large arrays give back is kept for the next ones: a page given to the system must be cleared before it comes again.
What the imports made is garbage at no time, and is not looked through for it.

With the C library's own setting every array of more than 32 MB is a mapping of its own, and the clearing of fresh pages takes a quarter
of the time of jobs that go through many images. Source: mallopt(3), GNU C Library.
"""

import ctypes
import gc
from functools import cache

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2
LARGEST_KEPT = 2**28
NEVER = 2**31 - 1
MARGIN = 2**26


def keep_freed_memory() -> bool:
    """Keep what arrays of up to LARGEST_KEPT bytes free in this process; False where the C library has no such setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((MMAP_THRESHOLD, LARGEST_KEPT), (TRIM_THRESHOLD, NEVER), (TOP_PAD, MARGIN))
    return all(mallopt(name, value) == 1 for name, value in settings)


@cache
def spare_imported() -> None:
    """Leave all objects of this moment out of every later search for garbage, which takes 0.1 s with them; once per process."""
    gc.freeze()
