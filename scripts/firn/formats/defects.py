"""Lists and maps of detector pixels that tell nothing, whatever program wrote them.

Convention: a defect map is boolean `(y, x)`, row 0 being row 0 of the movie's frames as firn.formats.movie reads them. Rows
`x y width height` (MotionCor2, RELION, cryoSPARC) count from 0 in those frames; `x y` alone is one pixel. SerialEM counts rows from the
upper edge, which is the last row of a frame. The defects that a Falcon writes into tag 65100 of its gain count rows as the TIFF does.
Source: SerialEM's defect file (keys as IMOD's clip and alignframes read them).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from firn.errors import InputError, brief
from firn.formats.compressed import ENDINGS
from firn.formats.mrc import read_mrc
from firn.formats.tiff import iterate_tiff
from firn.formats.xml_text import parse_xml

IMAGE_ENDINGS = (".mrc", ".tif", ".tiff", *ENDINGS)
MAX_BYTES = 16 * 2**20
FORMS = "rows 'x y width height', rows 'x y', or a defect file of SerialEM"


class Box(NamedTuple):
    """Columns x to x_end and rows y to y_end, ends not included; None for as far as the frame goes."""

    x: int
    y: int
    x_end: int | None
    y_end: int | None


def read_defects(path: str | os.PathLike, shape: tuple[int, int]) -> np.ndarray:
    """Boolean map `(y, x)` of the shape (height, width), true where the detector is defect; from a list or from an image with 1 = defect.

    Raises InputError when the file has another form, another size, or names pixels outside the frame.
    """
    if Path(path).suffix.lower() in IMAGE_ENDINGS:
        return _read_map(path, shape)
    lines = _read_lines(path)
    if any(words[0].startswith("CameraSize") for _, words in lines):
        return _read_serialem(path, lines, shape)
    return _read_rows(path, lines, shape)


def falcon_defects(text: str, shape: tuple[int, int], path: str | os.PathLike) -> np.ndarray:
    """Boolean map `(y, x)` in the row order of the TIFF, from the XML `<defects>` in a Falcon gain: row, col, area, point.

    Raises InputError when the text is no such list.
    """
    defects = np.zeros(shape, dtype=bool)
    try:
        for element in parse_xml(text).iter():
            numbers = list(_numbers(element.text or ""))
            for box in _falcon_boxes(element.tag, numbers):
                _draw(defects, box)
    except ValueError as error:
        raise InputError(f"{path}: its list of defects cannot be read ({brief(error)})") from error
    return defects


def _falcon_boxes(tag: str, numbers: list[int]) -> list[Box]:
    if tag == "row":
        return [Box(0, number, None, number + 1) for number in numbers]
    if tag == "col":
        return [Box(number, 0, number + 1, None) for number in numbers]
    wanted = {"area": 4, "nonmaskingarea": 4, "point": 2, "nonmaskingpoint": 2}.get(tag, len(numbers))
    if len(numbers) != wanted:
        raise ValueError(f"<{tag}> has {len(numbers)} numbers, not {wanted}")
    if tag in ("area", "nonmaskingarea"):
        return [Box(numbers[0], numbers[1], numbers[2] + 1, numbers[3] + 1)]
    return [Box(numbers[0], numbers[1], numbers[0] + 1, numbers[1] + 1)] if tag in ("point", "nonmaskingpoint") else []


def _numbers(text: str) -> Iterator[int]:
    """Numbers of a list such as `3,5-7`."""
    for part in text.replace(",", " ").split():
        first, _, last = part.partition("-")
        yield from range(int(first), min(int(last or first), int(first) + 65536) + 1)


def _read_map(path: str | os.PathLike, shape: tuple[int, int]) -> np.ndarray:
    is_tiff = Path(path).suffix.lower() in (".tif", ".tiff")
    image: np.ndarray = next(iterate_tiff(path)) if is_tiff else read_mrc(path)[0]
    if image.shape != shape:
        found = " x ".join(str(side) for side in image.shape[::-1])
        raise InputError(f"{path}: the defect map is {found} pixels, but the movies are {shape[1]} x {shape[0]}")
    return np.asarray(image > 0.5)


def _read_lines(path: str | os.PathLike) -> list[tuple[int, list[str]]]:
    """(line number, words) of each line that is neither empty nor a comment; commas separate like spaces."""
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise InputError(f"{path}: is larger than {MAX_BYTES} bytes, so it is no list of defects")
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as a list of defects ({FORMS}): it is no text") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    words = ((number, line.split("#")[0].replace(",", " ").split()) for number, line in enumerate(lines, start=1))
    return [(number, row) for number, row in words if row]


def _read_rows(path: str | os.PathLike, lines: list[tuple[int, list[str]]], shape: tuple[int, int]) -> np.ndarray:
    defects = np.zeros(shape, dtype=bool)
    for number, words in lines:
        values = _integers(path, number, words)
        x, y, width, height = values if len(values) == 4 else (*values, 1, 1) if len(values) == 2 else (-1, -1, 0, 0)
        if min(x, y) < 0 or min(width, height) < 1 or x + width > shape[1] or y + height > shape[0]:
            raise InputError(f"{path}: row {number} is {brief(values)}, not 'x y width height' inside {shape[1]} x {shape[0]} pixels")
        _draw(defects, Box(x, y, x + width, y + height))
    return defects


def _read_serialem(path: str | os.PathLike, lines: list[tuple[int, list[str]]], shape: tuple[int, int]) -> np.ndarray:
    """Drawn as SerialEM counts, then put upside down and brought to the movie's sampling."""
    told = {
        words[0]: _integers(path, number, words[1:]) for number, words in lines if words[0] not in ("BadPixels", "BadColumns", "BadRows")
    }
    try:
        size = told["CameraSizeY"][0], told["CameraSizeX"][0]
    except (KeyError, IndexError) as error:
        raise InputError(f"{path}: names no CameraSizeX and CameraSizeY, so its defects cannot be placed") from error
    if min(size) < 1 or size[0] * shape[1] != size[1] * shape[0] or not {size[0] / shape[0], shape[0] / size[0]} & {1.0, 2.0, 4.0}:
        raise InputError(f"{path}: is for a camera of {brief(f'{size[1]} x {size[0]}')} pixels, but the movies are {shape[1]} x {shape[0]}")
    defects = np.zeros(size, dtype=bool)
    pixel = {0: 1, 1: 2}.get(max(0, *told.get("WasScaled", [0])[:1]), 4)
    for number, words in lines:
        for box in _serialem_boxes(words[0], _integers(path, number, words[1:]), pixel, f"{path}: row {number}"):
            _draw(defects, box)
    _close_unusable(defects, told.get("UsableArea", []))
    return _resample(defects[::-1], shape)


def _serialem_boxes(key: str, values: list[int], pixel: int, where: str) -> list[Box]:
    if key == "BadPixels":
        return [Box(x, y, x + pixel, y + pixel) for x, y in zip(values[0::2], values[1::2], strict=False)]
    if key == "BadColumns":
        return [Box(x, 0, x + 1, None) for x in values]
    if key == "BadRows":
        return [Box(0, y, None, y + 1) for y in values]
    if key in ("PartialBadColumn", "PartialBadRow"):
        if len(values) < 4:
            raise InputError(f"{where} is '{key} {brief(' '.join(map(str, values)))}', not {key} followed by start, width, first and last")
        start, width, first, last = values[:4]
        return [Box(start, first, start + width, last + 1) if key == "PartialBadColumn" else Box(first, start, last + 1, start + width)]
    return []


def _close_unusable(defects_: np.ndarray, area: list[int]) -> None:
    """Everything outside the usable area (top, left, bottom, right, last ones included) is defect."""
    if len(area) == 4 and area[2] > area[0] and area[3] > area[1]:
        usable = np.zeros_like(defects_)
        usable[area[0] : area[2] + 1, area[1] : area[3] + 1] = True
        defects_ |= ~usable


def _resample(defects: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The map on a finer grid, or on a coarser one whose pixels are defect when any of theirs is."""
    finer, coarser = shape[0] // defects.shape[0], defects.shape[0] // shape[0]
    if finer > 1:
        return defects.repeat(finer, axis=0).repeat(finer, axis=1)
    if coarser > 1:
        return np.asarray(defects.reshape(shape[0], coarser, shape[1], coarser).any(axis=(1, 3)))
    return defects.copy()


def _draw(defects_: np.ndarray, box: Box) -> None:
    """Boxes that reach beyond the frame are cut at its edge."""
    defects_[max(0, box.y) : box.y_end, max(0, box.x) : box.x_end] = True


def _integers(path: str | os.PathLike, number: int, words: list[str]) -> list[int]:
    try:
        return [int(word) for word in words]
    except ValueError as error:
        raise InputError(f"{path}: row {number} cannot be read as a defect ({brief(error)}); known are {FORMS}") from error
