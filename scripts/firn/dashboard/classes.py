"""2D classes: which results there are, one result's table, and its averages as one picture of tiles."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firn.dashboard.kept import tagged
from firn.dashboard.places import RequestError, inside, is_inside
from firn.dashboard.server import Answer, as_json
from firn.errors import InputError
from firn.formats.yaml_text import read_yaml
from firn.live import layout

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TILE_PX = 160
ACROSS = 10
MOST_CLASSES = 1000
NUMBERS = ("class_count", "class_fraction", "class_resolution", "class_ess", "class_quality")
OF_AVERAGES = ("class_resolution", "class_ess", "class_quality")
"""What a class without an average, whose gain is 0, does not have."""
HAND_FOLDER = Path("decisions")


@dataclass(frozen=True)
class Result:
    """A folder with classes: a job's own, or that of a round; `selection` tells which classes a rule or a hand kept."""

    folder: Path
    job: str
    type: str
    round: str
    selection: bool

    @property
    def hand_file(self) -> Path:
        """Where a hand's choice of these classes is written: the file the job already names, or one named after the job."""
        if self.round:
            return HAND_FOLDER / f"{self.job}_round_{self.round}.yaml"
        given = layout.read_json(self.folder / "job.json", {}).get("settings", {}).get("decisions")
        return Path(given) if isinstance(given, str) and given else HAND_FOLDER / f"{self.job}.yaml"


def results() -> list[Result]:
    """All results with classes, the newest first."""
    records = [*Path("results").glob("*/job.json"), *Path("results").glob("*/rounds/*/job.json")]
    found = [(path.stat().st_mtime, _result(path)) for path in records if is_inside(path.as_posix())]
    return [one for _, one in sorted(found, key=lambda pair: -pair[0]) if one is not None]


def find_result(folder: str) -> Result:
    """The result in that folder; RequestError (404) when there is none."""
    found = next((one for one in results() if one.folder.as_posix() == folder), None)
    if found is None:
        raise RequestError(404, "There are no classes of that name.")
    return found


def tell(folder: str | None) -> Answer:
    """The classes of the result in a folder; without one, which results can be looked at."""
    if folder is not None:
        return as_json(table_of(find_result(folder)))
    return as_json(
        [
            {"folder": one.folder.as_posix(), "job": one.job, "type": one.type, "round": one.round, "selection": one.selection}
            for one in results()
        ]
    )


def table_of(result: Result) -> dict[str, Any]:
    """Classes by row: number, counts, resolution, ESS, quality, whether kept and why; and what a hand chose so far."""
    table = _read(result)
    rows = [
        {"number": int(row["class_number"])}
        | {
            name: _finite(row[name])
            for name in NUMBERS
            if name in table.columns and not (name in OF_AVERAGES and row.get("class_gain") == 0)
        }
        | ({"kept": bool(row["kept"]), "reason": str(row.get("reason", ""))} if "kept" in table.columns else {})
        for _, row in table.iterrows()
    ]
    return {
        "folder": result.folder.as_posix(), "job": result.job, "round": result.round, "classes": rows, "across": ACROSS,
        "tile": TILE_PX, "file": result.hand_file.as_posix(), "chosen": _chosen(result.hand_file),
    }  # fmt: skip


def tiles(result: Result) -> Answer:
    """All averages side by side, ACROSS in a row, in the order of the table; each is stretched by itself, row 0 at the bottom."""
    import numpy as np
    from PIL import Image

    averages = _averages(_read(result))
    down = -(-len(averages) // ACROSS)
    sheet = np.zeros((down * TILE_PX, ACROSS * TILE_PX), dtype=np.uint8)
    for place, average in enumerate(averages):
        low, high = np.percentile(average, [1.0, 99.7])
        grey = (255 * np.clip((average - low) / max(float(high - low), 1e-12), 0, 1)).astype(np.uint8)[::-1]
        tile = np.asarray(Image.fromarray(grey).resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC))
        top, left = place // ACROSS * TILE_PX, place % ACROSS * TILE_PX
        sheet[top : top + TILE_PX, left : left + TILE_PX] = tile
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, "PNG", compress_level=3)
    return tagged(stream.getvalue(), "image/png")


def _result(record: Path) -> Result | None:
    folder = record.parent
    content = layout.read_json(record, {})
    selection = content.get("type") == "select_2d"
    name = "decisions.star" if selection else "classes.star"
    if not (folder / name).exists() or (not selection and not (folder / "classes.mrcs").exists()):
        return None
    number = folder.name if folder.parent.name == "rounds" else ""
    return Result(folder, str(content.get("job", folder.name)), str(content.get("type", "")), number, selection)


def _read(result: Result) -> "pd.DataFrame":
    from firn.formats.tables import read_table  # pandas, which takes a second to import

    path = result.folder / ("decisions.star" if result.selection else "classes.star")
    inside(path.as_posix())
    return read_table(path, "classes", needs=("class_number", "class_image")).iloc[:MOST_CLASSES]


def _averages(table: "pd.DataFrame") -> list["np.ndarray"]:
    from firn.formats.mrc import read_sections
    from firn.formats.tables import split_image_names

    sections, stacks = split_image_names(table["class_image"].astype(str))
    found: list[Any] = [None] * len(table)
    for stack in dict.fromkeys(stacks.tolist()):
        inside(stack)
        places = [place for place, name in enumerate(stacks) if name == stack]
        for place, average in zip(places, read_sections(stack, sections[places]), strict=True):
            found[place] = average
    return found


def _chosen(path: Path) -> dict[str, list[int]]:
    """`select` and `reject` of a hand's file; empty where there is none."""
    if not path.exists() or not is_inside(path.as_posix()):
        return {}
    try:
        content = read_yaml(path, "decisions about classes")
    except InputError:
        return {}
    return {key: content[key] for key in ("select", "reject") if isinstance(content, dict) and isinstance(content.get(key), list)}


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if abs(number) < float("inf") else None
