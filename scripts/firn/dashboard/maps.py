"""Maps: which there are, what is known of one, and its density on a coarse grid that a browser turns and cuts.

A map finer than GRID is cropped in Fourier space: the coarse grid holds exactly the frequencies that fit on it, and pixel `n//2` stays the origin.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firn.dashboard.job_list import figures_of, read_records
from firn.dashboard.kept import Stamp, stamp, tagged
from firn.dashboard.places import RequestError, inside, is_inside
from firn.dashboard.server import Answer, as_json
from firn.live import layout
from firn.live.round_cards import read_rounds, resolutions

if TYPE_CHECKING:
    import numpy as np

GRID = 96
"""Pixels along a side that a browser draws at once."""
FILES = {"map": "map.mrc", "half1": "half1.mrc", "half2": "half2.mrc", "mask": "mask.mrc", "masked": "map_masked.mrc"}
PLACES = ("*", "*/class_*", "*/rounds/*", "*/rounds/*/class_*")
JUDGES = ("validate_fsc", "sharpen", "orientation_diagnostics", "local_resolution", "local_filter")
"""Job types whose figures tell of the map that they read."""
DRAWN = ("surface", "slices", "volumes")
"""Figures that the page draws itself."""
INT16 = 32767
LARGEST_MASK = 2**27
"""Bytes; the level at which a map is first shown is found without a larger mask."""
_reading = threading.Lock()


@dataclass(frozen=True)
class Map:
    """A folder with a map.mrc: a job's own, that of a round, or that of a class of either."""

    folder: Path

    @property
    def home(self) -> Path:
        """Where the job.json that tells of it lies."""
        return self.folder.parent if self.folder.name.startswith("class_") else self.folder

    @property
    def job(self) -> str:
        """Name of the job."""
        return self.folder.parts[1]

    def names(self) -> dict[str, Any]:
        """What it is called and what its job says of it."""
        from firn.report.records import RESOLUTIONS  # pandas, which takes a second to import

        content = layout.read_json(self.home / "job.json", {})
        metrics = {name: entry.get("value") for name, entry in content.get("metrics", {}).items()}
        one = self.home == self.folder
        return {
            "folder": self.folder.as_posix(), "job": self.job, "type": content.get("type", ""), "part": "" if one else self.folder.name,
            "round": self.home.name if self.home.parent.name == "rounds" else "", "time": (self.folder / "map.mrc").stat().st_mtime,
            "resolution": next((metrics[name] for name in RESOLUTIONS if metrics.get(name)), None) if one else None,
            "particles": metrics.get("particles") if one else None,
        }  # fmt: skip


def tell(folder: str | None) -> Answer:
    """Everything about the map in a folder; without one, all maps, the newest first."""
    if folder is not None:
        return as_json(_described(_find(folder)))
    found = [each.names() for each in _maps()]
    return as_json(sorted(found, key=lambda names: -names["time"]))


def send_volume(folder: str, kind: str) -> Answer:
    """The density: four little-endian float32 (greatest size, Å per pixel, standard deviation, a level that shows the molecule), then int16 `(z, y, x)`
    of which 32767 is the greatest size."""
    path = _find(folder).folder / FILES.get(kind, "")
    if kind not in FILES or not is_inside(path.as_posix()):
        raise RequestError(404, "There is no such map.")
    mask = path.parent / FILES["mask"]
    inner = mask if kind != "mask" and is_inside(mask.as_posix()) and mask.stat().st_size <= LARGEST_MASK else None
    with _reading:  # a reader who asks again, because a large map took long, waits for the same reading
        return _packed(path, inner, (stamp(path), stamp(mask)))


def _maps() -> Iterator[Map]:
    for place in PLACES:
        for path in Path("results").glob(f"{place}/map.mrc"):
            if is_inside(path.as_posix()):
                yield Map(path.parent)


def _find(folder: str) -> Map:
    found = next((each for each in _maps() if each.folder.as_posix() == folder), None)
    if found is None:
        raise RequestError(404, "There is no such map.")
    return found


def _described(one: Map) -> dict[str, Any]:
    from firn.formats.mrc import read_shape  # needs numpy, which is slow to import

    shape, pixel_size = read_shape(one.folder / "map.mrc")
    rounds = resolutions(read_rounds()).get(one.job, [])
    return one.names() | {
        "side": shape[0], "pixel_size": pixel_size, "kinds": [kind for kind, name in FILES.items() if is_inside((one.folder / name).as_posix())],
        "figures": [*_figures(one.home, one.job), *_judged(one.job)],
        "rounds": [{name: entry[name] for name in ("round", "finished", "particles", "resolution")} for entry in rounds],
    }  # fmt: skip


def _figures(folder: Path, job: str) -> list[dict[str, str]]:
    content = layout.read_json(folder / "job.json", {})
    return [figure | {"job": job} for figure in figures_of(folder, content) if Path(figure["file"]).stem not in DRAWN]


def _judged(job: str) -> Iterator[dict[str, str]]:
    """Figures of the jobs that judge the map, or the one it was filtered or sharpened from: FSC, Guinier plot, resolution by direction."""
    records = {record.name: record for record in read_records()}
    related, waiting = [], [job]
    while waiting:
        name = waiting.pop()
        related.append(name)
        judges = [record.name for record in records.values() if record.type in JUDGES and name in record.upstream]
        judged = [up for up in records[name].upstream if (records[up].folder / "map.mrc").exists()] if records[name].type in JUDGES else []
        waiting += [other for other in [*judged, *judges] if other not in related and other not in waiting]
    for name in related[1:]:
        yield from _figures(records[name].folder, name)


@lru_cache(maxsize=6)
def _packed(path: Path, mask: Path | None, _: tuple[Stamp | None, Stamp | None]) -> Answer:
    import numpy as np

    volume, spacing = _read(path)
    within = _read(mask)[0] if mask else None
    shown = volume[within > 0.5] if within is not None and within.shape == volume.shape and (within > 0.5).any() else None
    level = np.percentile(volume, 98) if shown is None else np.percentile(shown, 70)
    peak = max(float(np.abs(volume).max()), 1e-30)
    head = np.array([peak, spacing, volume.std(), level], "<f4")
    return tagged(head.tobytes() + np.round(volume * (INT16 / peak)).astype("<i2").tobytes(), "application/octet-stream")


def _read(path: Path) -> tuple["np.ndarray", float]:
    """(density on a grid of at most GRID pixels a side, Å per pixel), read section by section so that a large map takes little memory."""
    import numpy as np

    from firn.formats.mrc import iterate_sections, read_shape

    shape, pixel_size = read_shape(inside(path.as_posix()))
    n = shape[0]
    if len(set(shape)) != 1:
        raise RequestError(400, "Only maps that are cubes are drawn.")
    crop = fourier_crop(n, min(n, GRID))
    volume = np.zeros((len(crop),) * 3, np.float32)
    for weights, section in zip(crop.T, iterate_sections(path), strict=True):
        volume += weights[:, None, None] * (crop @ section.astype(np.float32) @ crop.T)
    return volume, pixel_size * n / len(crop)


def fourier_crop(n: int, m: int) -> "np.ndarray":
    """`(m, n)` float32, which brings a periodic signal of n samples onto m samples with all frequencies below m/2; sample n//2 goes to m//2.

    Each row is a Dirichlet kernel, the Fourier series of a sample cut at the greatest frequency that m samples hold.
    """
    import numpy as np

    if m == n:
        return np.eye(n, dtype=np.float32)
    terms = 2 * ((m - 1) // 2) + 1
    at = (np.arange(m)[:, None] - m // 2) / m - (np.arange(n)[None] - n // 2) / n
    whole = np.isclose(np.sin(np.pi * at), 0, atol=1e-12)
    ratio = np.sin(terms * np.pi * at) / np.where(whole, 1, np.sin(np.pi * at))
    return np.asarray(np.where(whole, terms, ratio) / n, dtype=np.float32)
