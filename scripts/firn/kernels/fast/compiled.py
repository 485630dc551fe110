"""Loops compiled for the CPU by numba, run on as many cores as torch may use."""

import functools
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays and numbers as machine code that lets other threads run, without what checks its types.

    The code is kept for the next process, unless neither the package's folder nor the user's cache can be written.
    """
    plain = inspect.unwrap(function)
    options: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(plain)
    except RuntimeError:
        return njit(**options)(plain)


def in_parts(work: Callable[[int, int], None], count: int) -> None:
    """Call work(first, end) for runs of consecutive numbers below a count, one run for each of torch's threads."""
    parts = max(1, min(torch.get_num_threads(), count))
    if parts == 1:
        work(0, count)
        return
    bounds = [count * part // parts for part in range(parts + 1)]
    list(_threads(parts).map(work, bounds[:-1], bounds[1:]))


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="compiled")
