"""Sums of raw frames over many movies, as counted: what the detector's own pattern is found in."""

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from firn.errors import ExposureError
from firn.formats.movie import iterate_frames


def spread_out(paths: Sequence[str], count: int) -> list[str]:
    """At most count of the paths, evenly spaced."""
    if len(paths) <= count:
        return list(paths)
    return [paths[index] for index in np.linspace(0, len(paths) - 1, count).round().astype(int)]


def sum_movies(
    paths: Iterable[str], shape: tuple[int, int], frames: int | None = None, eer_fractions: int = 40, threads: int = 1
) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, ExposureError]]:
    """(sums `(y, x)` float32 of the frames of every other movie and of the rest; faults of movies that could not be read, by path).

    frames: how many of each movie, from its first, default all. EER movies are summed at physical pixels. One movie alone is shared
    out by frames. A movie of another shape than the one given is a fault.
    """
    names = list(paths)
    sums = np.zeros((2, *shape), dtype=np.float32)
    faults: dict[str, ExposureError] = {}
    for number, path in enumerate(names):
        try:
            for index, frame in enumerate(islice(iterate_frames(path, eer_fractions, 1, threads), frames)):
                if frame.shape != shape:
                    raise ExposureError("SHAPE", f"{path}: is {frame.shape[1]} x {frame.shape[0]} pixels, expected {shape[1]} x {shape[0]}")
                sums[(number if len(names) > 1 else index) % 2] += frame
        except ExposureError as fault:
            faults[path] = fault
    return (sums[0], sums[1]), faults
