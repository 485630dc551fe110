"""When the movies that wait make a batch, and which of them go first."""

from collections.abc import Iterable, Mapping
from typing import Any


def next_batch(
    ready: Mapping[str, tuple[float, float]], size: int, max_wait_s: float, now: float, priority: str, number: int, ending: bool
) -> list[str]:
    """Files of the batch to cut now, in order of their names; none while it is better to wait.

    ready: (when found, when complete) by path. A batch closes when it is full, when its oldest movie has waited max_wait_s, or at the end of
    the session. priority: oldest, latest, or alternate, which takes the oldest for odd batch numbers and the latest for even ones.
    """
    if not ready:
        return []
    waited = now - min(complete for _, complete in ready.values())
    if len(ready) < size and waited < max_wait_s and not ending:
        return []
    backwards = priority == "latest" or (priority == "alternate" and number % 2 == 0)
    by_age = sorted(ready, key=lambda path: (ready[path][0], path), reverse=backwards)
    return sorted(by_age[:size])


def batch_name(number: int) -> str:
    """Batch id of the number-th batch, counted from 1."""
    return f"{number:04d}"


def in_order(batches: Iterable[str]) -> list[str]:
    """Batch ids by their numbers."""
    return sorted(batches, key=lambda batch: (len(batch), batch))


def try_wanted(jobs: Mapping[str, list[str]], done: set[str], failed: set[str]) -> bool:
    """Whether a batch must be tried again now: a job failed, and every other is done or waits for one that failed.

    jobs: the jobs of a batch in order, each with those it needs.
    """
    return bool(failed - done) and not set(runnable(jobs, done, failed)) - done


def runnable(jobs: Mapping[str, list[str]], done: set[str], failed: set[str]) -> list[str]:
    """Jobs of a batch that did not fail and need none that failed; done ones too."""
    dead: set[str] = set()
    for job, needs in jobs.items():
        if job not in done and (job in failed or dead.intersection(needs)):
            dead.add(job)
    return [job for job in jobs if job not in dead]


def open_count(batches: Mapping[str, Mapping[str, Any]]) -> int:
    """Batches open in all imports."""
    return sum(len(of_import) for of_import in batches.values())
