"""What all micrographs share is the detector's: a pattern that a wrong or old gain reference leaves.

Small pictures, less what varies slowly in them, are added up in two sets, every other one. Specimen and noise differ from picture to picture;
what the two averages share stays the same, so that their correlation r tells its power in units of that of one picture: with n pictures in
each set r = p / (p + 1 / n).
"""

import io
import zipfile

import numpy as np
from PIL import Image

from firn.live import layout
from firn.live.batch_tables import BatchTables
from firn.runtime.atomic import write_bytes, write_json

SUMS = layout.LIVE / "pattern.npz"
PICTURES = 50
"""Pictures that one judgement is made of."""


def add_pictures(tables: BatchTables) -> None:
    """Add the pictures of a batch from the tables of its jobs; judge and begin anew when there are enough."""
    pictures = [
        detail for path in _thumbnails(tables) if (image := tables.picture(path)) is not None and (detail := fine_detail(image)) is not None
    ]
    sums, count = _sums()
    for picture in pictures:
        if sums is None or sums.shape[1:] != picture.shape:
            sums, count = np.zeros((2, *picture.shape), np.float32), 0
        sums[count % 2] += picture
        count += 1
        if count == PICTURES:
            write_json(layout.PATTERN, {"contrast": round(contrast(sums / (PICTURES / 2), PICTURES // 2), 4)})
            sums, count = None, 0
    if pictures:
        stream = io.BytesIO()
        np.savez(stream, sums=np.zeros((2, 0, 0), np.float32) if sums is None else sums, count=count)
        write_bytes(SUMS, stream.getvalue())


def contrast(averages: np.ndarray, count: int) -> float:
    """Contrast (sd) of what two averages `(2, y, x)` of so many pictures share, in units of the contrast of one picture."""
    first, second = (average - average.mean() for average in averages)
    r = float((first * second).sum() / max(float(np.sqrt((first**2).sum() * (second**2).sum())), 1e-12))
    return float(np.sqrt(max(r, 0.0) / (max(1 - r, 1e-6) * count)))


def fine_detail(picture: Image.Image) -> np.ndarray | None:
    """A picture less the mean of the four neighbours of each pixel, with a standard deviation of 1; None where there is no detail."""
    image = np.asarray(picture, dtype=np.float32)
    if min(image.shape) < 3:
        return None
    around = (image[2:, 1:-1] + image[:-2, 1:-1] + image[1:-1, 2:] + image[1:-1, :-2]) / 4
    detail = image[1:-1, 1:-1] - around
    spread = float(detail.std())
    return detail / spread if spread else None


def _thumbnails(tables: BatchTables) -> list[str]:
    """Small pictures that the last job with some has made."""
    found: list[str] = []
    for folder in tables.folders:
        rows = tables.read(folder, "exposures") or []
        if rows and "thumbnail" in rows[0]:
            found = [str(row["thumbnail"]) for row in rows]
    return found


def _sums() -> tuple[np.ndarray | None, int]:
    try:
        with np.load(SUMS) as kept:
            return (kept["sums"], int(kept["count"])) if int(kept["count"]) else (None, 0)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None, 0
