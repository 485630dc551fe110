"""Large arrays are made of memory that earlier ones gave back."""

import gc
import resource
import weakref

import numpy as np
import pytest

from firn.runtime.memory import keep_freed_memory, spare_imported

PIXELS = 2**24


def faults_of_an_image() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert np.full(PIXELS, 1, dtype=np.float32)[-1] == 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_an_image_of_the_size_of_one_just_freed_needs_no_fresh_pages() -> None:
    if not keep_freed_memory():
        pytest.skip("this C library cannot be told to keep memory")
    faults_of_an_image()
    assert faults_of_an_image() < 4 * PIXELS / resource.getpagesize() / 10


class Knot:
    def __init__(self) -> None:
        self.own = self


def test_objects_of_the_imports_are_spared_once_and_later_garbage_is_still_found() -> None:
    spare_imported()
    spared = gc.get_freeze_count()
    assert spared > 0
    lost = weakref.ref(Knot())
    spare_imported()
    gc.collect()
    assert lost() is None
    assert gc.get_freeze_count() <= spared
