"""What tests that run ticks share: a stream of 2D classes and their selection, as the graph tells of it, and movies that land."""

from typing import Any

import numpy as np

from firn.simulate.write_movie import write_tiff_movie

COMMON: dict[str, Any] = {"groups": {}, "given": {}, "needs": []}
STREAM: dict[str, Any] = {
    "sources": {"movies": "stack"},
    "jobs": {
        "classify": {"name": "class2d", "settings": {"type": "stream_2d", "classes": 2, "batch_per_class": 100}, **COMMON},
        "select": {"name": "keep", "settings": {"type": "select_2d"}, **COMMON},
    },
}
JOBS = ["class2d", "keep"]
QUICK = {"settle_s": 0, "max_wait_s": 1000, "poll_s": 0.001, "quiet_min": None, "alarms": {"disk_free_gb": 0}}


def land(*names: str, frames: int = 4) -> None:
    """Movies in the working directory."""
    for name in names:
        write_tiff_movie(f"raw/{name}.tif", [np.full((16, 16), frame + 1, dtype=np.uint8) for frame in range(frames)])
