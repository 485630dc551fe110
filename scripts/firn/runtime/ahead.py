"""Work done beside the device: the next item is made ready while the present one is computed; results are written behind it."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def made_ahead(items: Iterable[Item], make: Callable[[Item], Made]) -> Iterator[tuple[Item, "Future[Made]"]]:
    """Each item with the future of what `make` makes of it, in order; one item is made ahead in a thread.

    An exception in `make` is raised by the future's result(), so that one bad item does not end the loop.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting: tuple[Item, Future[Made]] | None = None
        for item in items:
            following = (item, pool.submit(make, item))
            if waiting is not None:
                yield waiting
            waiting = following
        if waiting is not None:
            yield waiting


class Behind:
    """A thread that does what it is given in order; leaving the block waits for all of it and raises the first error.

    At most `limit` tasks wait, so that what they hold stays bounded.
    """

    def __init__(self, limit: int = 4):
        self._limit = limit
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._tasks: list[Future[Any]] = []

    def do(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Have `work(*arguments)` done; waits while too much is left to do, and raises the error of a task that failed."""
        self._tasks.append(self._pool.submit(work, *arguments))
        while len(self._tasks) > self._limit:
            self._tasks.pop(0).result()

    def wait(self) -> None:
        """Return when all that was given is done; raises the first error."""
        while self._tasks:
            self._tasks.pop(0).result()

    def __enter__(self) -> "Behind":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            self.wait()
