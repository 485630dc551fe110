"""Duplicates: of any two too close, the better stays, and micrographs do not mix."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from firn.preprocess.duplicates import find_duplicates, nearest_distances


@given(st.integers(0, 10_000), st.integers(2, 60))
def test_what_is_kept_is_apart_and_what_is_dropped_is_near_something_better(seed, count):
    random = np.random.default_rng(seed)
    points, micrograph, quality = random.uniform(0, 300, (count, 2)), random.integers(0, 2, count), random.permutation(count)
    dropped = find_duplicates(points, micrograph, quality, 40.0)
    close = (
        (np.linalg.norm(points[:, None] - points[None], axis=-1) <= 40)
        & (micrograph[:, None] == micrograph[None])
        & ~np.eye(count, dtype=bool)
    )
    kept = ~dropped
    assert not (close & kept[:, None] & kept[None]).any()
    better = close & (quality[None] > quality[:, None]) & kept[None]
    assert better[dropped].any(axis=1).all()


def test_equals_keep_the_first():
    assert find_duplicates(np.zeros((3, 2)), np.zeros(3, dtype=int), np.zeros(3), 1.0).tolist() == [False, True, True]


def test_the_same_place_in_two_micrographs_is_no_duplicate():
    assert not find_duplicates(np.zeros((2, 2)), np.array([0, 1]), np.zeros(2), 50.0).any()


def test_nearest_distances_stop_at_the_limit():
    points = np.array([[0.0, 0], [3, 4], [500, 0]])
    assert nearest_distances(points, np.zeros(3), 100.0).tolist() == [5.0, 5.0, np.inf]
