"""When batches close, in what order movies go, and when a batch is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from firn.live.batches import next_batch, runnable, try_wanted

READY = {f"m{number}": (float(number), 100.0 + number) for number in range(5)}
CHAIN = {"movies": [], "motion": ["movies"], "ctf": ["motion"], "blobs": ["ctf"], "other": ["motion"]}


def test_a_full_batch_closes_at_once_and_a_part_of_one_waits() -> None:
    assert next_batch(READY, 5, 60, 105, "oldest", 1, ending=False) == sorted(READY)
    assert next_batch(READY, 6, 60, 105, "oldest", 1, ending=False) == []


def test_a_part_of_a_batch_closes_when_its_oldest_waited_or_at_the_end() -> None:
    assert next_batch(READY, 6, 60, 160, "oldest", 1, ending=False) == sorted(READY)
    assert next_batch(READY, 6, 60, 105, "oldest", 1, ending=True) == sorted(READY)


def test_priority_decides_who_goes_first() -> None:
    assert next_batch(READY, 2, 60, 105, "oldest", 2, ending=False) == ["m0", "m1"]
    assert next_batch(READY, 2, 60, 105, "latest", 2, ending=False) == ["m3", "m4"]
    assert next_batch(READY, 2, 60, 105, "alternate", 1, ending=False) == ["m0", "m1"]
    assert next_batch(READY, 2, 60, 105, "alternate", 2, ending=False) == ["m3", "m4"]


@given(st.integers(1, 30), st.integers(1, 7), st.sampled_from(["oldest", "latest", "alternate"]))
def test_every_movie_lands_in_exactly_one_batch(count: int, size: int, priority: str) -> None:
    ready = {f"m{number:03d}": (float(number), 0.0) for number in range(count)}
    taken: list[str] = []
    while batch := next_batch(ready, size, 60, 1, priority, len(taken) + 1, ending=True):
        taken += batch
        ready = {path: times for path, times in ready.items() if path not in batch}
    assert sorted(taken) == [f"m{number:03d}" for number in range(count)]


def test_jobs_after_a_failed_one_are_not_asked_for_and_others_are() -> None:
    assert runnable(CHAIN, {"movies", "motion"}, {"ctf"}) == ["movies", "motion", "other"]


def test_a_batch_is_tried_again_only_when_nothing_of_it_can_still_run() -> None:
    assert not try_wanted(CHAIN, {"movies", "motion"}, {"ctf"})
    assert try_wanted(CHAIN, {"movies", "motion", "other"}, {"ctf"})
    assert not try_wanted(CHAIN, set(CHAIN), {"ctf"})
    assert not try_wanted(CHAIN, {"movies"}, set())
