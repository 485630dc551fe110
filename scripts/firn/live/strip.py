"""The latest exposures for people to look at: small pictures with picks, and how motion and CTF of one were fitted."""

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from firn.errors import ExposureError, InputError
from firn.formats.mrc import read_mrc
from firn.live import layout
from firn.live.batch_tables import BatchTables
from firn.live.points import FITS, LATEST
from firn.runtime.atomic import write_json

Row = Mapping[str, Any]
FITTED = ("motion", "ctf")
"""Beginnings of the names of figures of which one each is shown."""
FIT_PX = 1000
KEPT = 16
LONGEST_PX = 384
QUALITY = 60
MOST_PICKS = 600
FROM_MICROGRAPHS = 3
"""Pictures made of a batch whose job left no thumbnails; reading whole micrographs takes time."""


def show_batch(tables: BatchTables, outcomes: Iterable[Mapping[str, Any]]) -> None:
    """Put the exposures of a finished batch before those shown so far; the latest KEPT stay."""
    exposures, picks = tables.by_exposure("exposures"), tables.by_exposure("picks")
    fresh: list[dict[str, Any]] = []
    for outcome in list(outcomes)[::-1][:KEPT]:
        entry: dict[str, Any] = {"name": Path(outcome["movie"]).stem, "picture": "", "picks": [], "radius": 0}
        rows = exposures.get(outcome["exposure_id"])
        if rows is not None and not outcome["code"]:
            entry |= _seen(tables, rows[-1], picks.get(outcome["exposure_id"]), len([one for one in fresh if one["picture"]]))
        fresh.append(entry)
    names = {entry["name"] for entry in fresh}
    before = [entry for entry in layout.read_json(LATEST, []) if entry["name"] not in names]
    write_json(LATEST, [*fresh, *before][:KEPT])
    fits = [fit for fit in (_fit(tables.folders, name) for name in FITTED) if fit]
    if fits:
        write_json(FITS, fits)


def look_at(folders: Iterable[Path], exposure: str, may_read: Callable[[str], bool], picks: Sequence[Row] | None = None) -> dict[str, Any]:
    """The picture of one exposure with its picks, from the folders of its batch; empty where there is none that may be read.

    picks: those to draw instead of the last in the folders.
    """
    tables = BatchTables(folders)
    rows = tables.by_exposure("exposures").get(exposure)
    if rows is None or not all(may_read(rows[-1][name]) for name in ("thumbnail", "micrograph") if _is_text(rows[-1], name)):
        return {}
    return _seen(tables, rows[-1], tables.by_exposure("picks").get(exposure) if picks is None else picks, 0)


def _is_text(row: Row, name: str) -> bool:
    return isinstance(row.get(name), str)


def _seen(tables: BatchTables, row: Row, picks: Sequence[Row] | None, made: int) -> dict[str, Any]:
    """A picture of an exposure, and its picks: x from the left and y from the top, and their radius, in thousandths of the width."""
    image = _thumbnail(tables, row) if _is_text(row, "thumbnail") else _reduced(row) if made < FROM_MICROGRAPHS else None
    if image is None:
        return {}
    width, height = float(row["width_px"]), float(row["height_px"])
    entry: dict[str, Any] = {"picture": _as_uri(image), "ratio": round(height / width, 4)}
    if picks:
        diameter = float(picks[0].get("diameter", 0.0))
        entry["picks"] = [
            [round(1000 * pick["x_px"] / width), round(1000 * (height - 1 - pick["y_px"]) / width)] for pick in picks[:MOST_PICKS]
        ]
        entry["radius"] = round(500 * diameter / (float(row["micrograph_pixel_size"]) * width), 1)
    return entry


def _fit(folders: Iterable[Path], name: str) -> dict[str, str]:
    """The first figure of the last job whose name begins so, as a small picture with its title and caption; nothing where there is none to read."""
    for folder in reversed(list(folders)):
        for figure in layout.read_json(folder / "job.json", {}).get("figures", []):
            if Path(figure["file"]).name.startswith(f"{name}_"):
                try:
                    with Image.open(folder / figure["file"]) as picture:
                        shown = _as_uri(picture.convert("RGB"), FIT_PX)
                except OSError:
                    continue
                return {"title": figure["title"], "caption": figure["caption"], "picture": shown}
    return {}


def _thumbnail(tables: BatchTables, row: Row) -> Image.Image | None:
    """The picture that a job left; row 0 of a micrograph is the lowest, as in every figure."""
    picture = tables.picture(row["thumbnail"])
    return None if picture is None else picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def _reduced(row: Row) -> Image.Image | None:
    if not _is_text(row, "micrograph"):
        return None
    try:
        image = read_mrc(row["micrograph"])[0]
    except (OSError, InputError, ExposureError):
        return None
    factor = max(1, -(-max(image.shape) // LONGEST_PX))
    height, width = (side // factor * factor for side in image.shape)
    small = image[:height, :width].reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))
    low, high = np.percentile(small, [0.5, 99.5])
    grey = np.clip((small - low) / max(float(high - low), 1e-12), 0, 1)
    return Image.fromarray((255 * grey[::-1]).astype(np.uint8))


def _as_uri(image: Image.Image, longest: int = LONGEST_PX) -> str:
    image.thumbnail((longest, longest))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
