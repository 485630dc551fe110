"""Coordinates that other programs picked: EMAN `.box`, crYOLO `.cbox`, STAR of RELION and its kin, Topaz's tables, CSV.

Convention: x runs along columns and y along rows of the image as it is stored, 0-based, in pixels of the image that was picked in; a
coordinate is the pixel that a particle's box has at the index size // 2. EMAN and crYOLO write the first corner of the box and its size:
EMAN cuts whole pixels, crYOLO takes half the size, be it broken, from the centre.
"""

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from firn.errors import InputError, brief
from firn.formats.star import read_star

Pair = tuple[np.ndarray, np.ndarray]
MAX_BYTES = 2**30
COLUMNS = ("name", "x", "y", "score", "size")
ALIASES = {
    "x": ("x_px", "x_coord", "x"),
    "y": ("y_px", "y_coord", "y"),
    "score": ("score", "pick_score", "confidence"),
    "name": ("image_name", "micrograph", "micrograph_name", "exposure_id"),
}
"""Headings of tables with a header: firn's, Topaz's, plain ones."""
RELION = {"x": "rlnCoordinateX", "y": "rlnCoordinateY", "score": "rlnAutopickFigureOfMerit", "name": "rlnMicrographName"}
CRYOLO = {"x": "CoordinateX", "y": "CoordinateY", "score": "Confidence", "width": "Width", "height": "Height"}
ORIGINS = ("rlnOriginX", "rlnOriginY", "rlnOriginXAngst", "rlnOriginYAngst")


def read_foreign_picks(path: str | os.PathLike) -> pd.DataFrame:
    """Picks of one file, in its order, with the columns COLUMNS; an empty file has none.

    name: the micrograph as the file calls it, else the file itself. x, y: centres, pixels. score, size (pixels): NaN where not told.
    Raises InputError when the file cannot be read, is of another kind, or holds what is no number.
    """
    reader = READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise InputError(f"{path}: its ending is none of {', '.join(READERS)}, by which files of picks are told apart")
    picks = reader(path)
    named = picks if "name" in picks.columns else picks.assign(name=Path(path).name)
    return pd.DataFrame({name: named.get(name, np.nan) for name in COLUMNS})


def _read_box(path: str | os.PathLike) -> pd.DataFrame:
    """Lines of corner, size and, from some programs, a score; EMAN's own fifth number is a kind of box, -1 to -3."""
    rows = [line.split() for line in _text(path).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    short = next((number for number, row in enumerate(rows, 1) if len(row) < 4), None)
    if short is not None:
        raise InputError(f"{path}: line {short} has {len(rows[short - 1])} values, but a box has x, y, width and height")
    x, y, width, height = (_numbers([row[column] for row in rows], path) for column in range(4))
    score = _numbers([row[4] for row in rows], path) if rows and all(len(row) > 4 for row in rows) else np.full(len(rows), np.nan)
    if np.isin(score, (-1, -2, -3)).all():
        score = np.full(len(rows), np.nan)
    whole = all((np.round(numbers) == numbers).all() and np.isfinite(numbers).all() for numbers in (x, y, width, height))
    return _centred((x, y), (width, height), whole, path).assign(score=score)


def _read_cbox(path: str | os.PathLike) -> pd.DataFrame:
    """A STAR file since crYOLO 1.8, lines as in `.box` before."""
    if not any(line.startswith("data_") for line in _text(path).splitlines()):
        return _read_box(path)
    table = _star_table(path, (CRYOLO["x"], CRYOLO["y"], CRYOLO["width"], CRYOLO["height"]))
    x, y, width, height = (_column(table, CRYOLO[name], path) for name in ("x", "y", "width", "height"))
    return _centred((x, y), (width, height), False, path).assign(score=_column(table, CRYOLO["score"], path))


def _read_relion(path: str | os.PathLike) -> pd.DataFrame:
    table = _star_table(path, (RELION["x"], RELION["y"]))
    moved = next((label for label in ORIGINS if label in table.columns and (_column(table, label, path) != 0).any()), None)
    if moved is not None:
        raise InputError(f"{path}: has shifts in _{moved}, so it is no table of picks; bring it in with import_particles")
    picks = pd.DataFrame({name: _column(table, RELION[name], path) for name in ("x", "y", "score")})
    return picks.assign(name=table[RELION["name"]].astype(str)) if RELION["name"] in table.columns else picks


def _read_headed(path: str | os.PathLike) -> pd.DataFrame:
    """A table with one line of headings: between tabs (Topaz), commas, semicolons or blanks."""
    lines = [line for line in _text(path).splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path}: is empty; a table of picks begins with a line of headings such as x_px,y_px")
    mark = next((mark for mark in "\t,;" if mark in lines[0]), None)
    try:
        rows = list(csv.reader(lines, delimiter=mark, strict=True)) if mark else [line.split() for line in lines]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as a table ({brief(error)})") from error
    heads = [head.strip().lower() for head in rows[0]]
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) != len(heads)), None)
    if wrong is not None:
        raise InputError(f"{path}: row {wrong} has {len(rows[wrong - 1])} values, but the table has {len(heads)} columns")
    places = {name: next((heads.index(alias) for alias in aliases if alias in heads), None) for name, aliases in ALIASES.items()}
    if places["x"] is None or places["y"] is None:
        raise InputError(f"{path}: needs columns x_px and y_px, x_coord and y_coord, or x and y; it has {brief(', '.join(heads))}")
    texts = {name: [row[place].strip() for row in rows[1:]] for name, place in places.items() if place is not None}
    return pd.DataFrame({name: values if name == "name" else _numbers(values, path) for name, values in texts.items()})


READERS: dict[str, Callable[[str | os.PathLike], pd.DataFrame]] = {
    ".box": _read_box,
    ".cbox": _read_cbox,
    ".star": _read_relion,
    ".txt": _read_headed,
    ".tsv": _read_headed,
    ".csv": _read_headed,
}


def _text(path: str | os.PathLike) -> str:
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise InputError(f"{path}: is larger than {MAX_BYTES} bytes, so it is no table of picks")
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({brief(error)})") from error


def _star_table(path: str | os.PathLike, labels: Sequence[str]) -> pd.DataFrame:
    """The first block of a STAR file that has the columns."""
    found = next((table for table in read_star(path).values() if set(labels) <= set(table.columns)), None)
    if found is None:
        raise InputError(f"{path}: has no table with {', '.join('_' + label for label in labels)}")
    return found


def _column(table: pd.DataFrame, label: str, path: str | os.PathLike) -> np.ndarray:
    return _numbers([str(value) for value in table[label]], path) if label in table.columns else np.full(len(table), np.nan)


def _numbers(values: Sequence[str], path: str | os.PathLike) -> np.ndarray:
    """The values as numbers; NaN and infinity are left to be refused by place."""
    numbers: np.ndarray = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(dtype=float)
    bad = next(
        (text for text, number in zip(values, numbers, strict=True) if np.isnan(number) and text.lower() not in ("nan", "-nan")), None
    )
    if bad is not None:
        raise InputError(f"{path}: '{brief(bad)}' stands where a number should")
    return numbers


def _centred(corner: Pair, size: Pair, whole: bool, path: str | os.PathLike) -> pd.DataFrame:
    """Corner and size as centre and size; of whole pixels half an odd number is rounded down, as the origin of an image is."""
    if not all((side > 0).all() for side in size):
        raise InputError(f"{path}: has a box without a size; each must be wider and higher than nothing")
    x, y = (first + (side // 2 if whole else side / 2) for first, side in zip(corner, size, strict=True))
    return pd.DataFrame({"x": x, "y": y, "size": np.maximum(*size)})
