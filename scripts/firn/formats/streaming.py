"""Work done ahead by threads, handed out in order, with only a few results alive at a time."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_order(tasks: Iterable[Callable[[], T]], threads: int = 1) -> Generator[T, None, None]:
    """Results of the tasks in their order; at most threads + 1 are held at once, and the first error is raised in its turn.

    With one thread each task runs when its result is asked for. Decoders let go of Python's lock, so threads decode together.
    """
    if threads <= 1:
        for task in tasks:
            yield task()
        return
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(task))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
