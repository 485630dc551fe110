"""What the microscope's program wrote beside a movie: XML of EPU, or mdoc of SerialEM and Tomography.

Convention: pixel sizes in Å of the saved image, doses in e/Å² of the whole exposure. EPU's XML describes a picture that may be binned against
the movie, so that the width of the field is kept and the pixel follows from the movie's width. Beam shifts are in the program's own units,
good for telling holes apart and nothing else; stage positions are in µm. The movies may lie in another tree than these files: they are matched by name.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from firn.errors import InputError
from firn.formats.xml_text import parse_xml

MAX_BYTES = 4 * 2**20
MOVIE_ENDINGS = ("_fractions", "_eer", "_frames")
E_PER_SQUARE_METRE, MICROMETRES = 1e-20, 1e6


@dataclass(frozen=True)
class Sidecar:
    """Each None where the file does not tell: kV, pixel size in Å or width of the field in Å, dose in e/Å², frames, beam shift (x, y), stage (x, y) in µm."""

    path: str
    voltage_kv: float | None = None
    pixel_size: float | None = None
    field_width: float | None = None
    total_dose: float | None = None
    frames: int | None = None
    beam_shift: tuple[float, float] | None = None
    stage: tuple[float, float] | None = None

    def pixel_of(self, width_px: int) -> float | None:
        """Å per pixel of a movie of this width."""
        return self.field_width / width_px if self.field_width else self.pixel_size


def find_sidecars(movies: Iterable[str], folder: str | os.PathLike | None = None) -> dict[str, str]:
    """The file that goes with each movie that has one: beside it, or anywhere below the folder.

    Names match as `m.tif.mdoc`, `m.mdoc` or `m.xml`, also without `_Fractions` or `_EER`; raises InputError when the folder is missing.
    """
    names = list(movies)
    folders = {Path(movie).parent for movie in names} if folder is None else {Path(folder)}
    if folder is not None and not Path(folder).is_dir():
        raise InputError(f"{folder}: is no folder, so no metadata can be looked for in it")
    listed: dict[str, str] = {}
    for place in sorted(folders):
        for path in sorted(place.glob("*") if folder is None else place.rglob("*")):
            if path.suffix.lower() in (".mdoc", ".xml"):
                listed.setdefault(path.name.lower(), str(path))
    found = ((movie, next((listed[name] for name in _candidates(movie) if name in listed), None)) for movie in names)
    return {movie: path for movie, path in found if path is not None}


def read_sidecar(path: str | os.PathLike) -> Sidecar:
    """What the file tells; raises InputError when it cannot be read."""
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise InputError(f"{path}: is larger than {MAX_BYTES} bytes, so it is no metadata of one exposure")
        text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return _read_epu(str(path), text) if Path(path).suffix.lower() == ".xml" else _read_mdoc(str(path), text)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as metadata of an exposure ({' '.join(str(error).split())[:200]})") from error


def _candidates(movie: str) -> Iterator[str]:
    name = Path(movie).name.lower()
    stem = Path(name).stem
    yield f"{name}.mdoc"
    stems = [stem, *(stem.removesuffix(ending) for ending in MOVIE_ENDINGS if stem.endswith(ending))]
    for ending in (".mdoc", ".xml"):
        yield from (f"{each}{ending}" for each in stems)


def _read_mdoc(path: str, text: str) -> Sidecar:
    """Keys before the first section and in it."""
    told: dict[str, str] = {}
    sections = 0
    for line in text.splitlines():
        sections += line.startswith(("[FrameSet", "[ZValue"))
        key, _, value = line.partition("=")
        if value.strip() and not line.startswith("[") and sections <= 1:
            told.setdefault(key.strip(), value.strip())
    if sections > 1:
        return Sidecar(path)
    frames = int(float(told.get("NumSubFrames", "0")))
    return Sidecar(
        path,
        voltage_kv=_positive(told.get("Voltage")),
        pixel_size=_positive(told.get("PixelSpacing")),
        total_dose=_positive(told.get("ExposureDose")),
        frames=frames if frames > 1 else None,
        beam_shift=_pair(told.get("ImageShift", "").split()),
        stage=_pair(told.get("StagePosition", "").split()),
    )


def _read_epu(path: str, text: str) -> Sidecar:
    root = parse_xml(text)
    volts, pixel = _positive(_text(root, "AccelerationVoltage")), _positive(_text(root, "pixelSize", "x", "numericValue"))
    width, dose = _positive(_text(root, "ReadoutArea", "width")), _positive(_custom(root, "Dose"))
    frames = _positive(_text(root, "NumberOffractions"))
    return Sidecar(
        path,
        voltage_kv=volts / 1000 if volts else None,
        field_width=pixel * 1e10 * width if pixel and width else None,
        total_dose=dose * E_PER_SQUARE_METRE if dose else None,
        frames=int(frames) if frames and frames > 1 else None,
        beam_shift=_pair([_text(root, "BeamShift", axis) for axis in ("_x", "_y")]),
        stage=_pair([_text(root, "stage", "Position", axis) for axis in ("X", "Y")], MICROMETRES),
    )


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(root: Element, name: str, *below: str) -> str | None:
    """Text of the first element of this name anywhere, or of the one that a path of children leads to from it."""
    element: Element | None = next((each for each in root.iter() if _local(each) == name), None)
    for child in below:
        element = next((each for each in element if _local(each) == child), None) if element is not None else None
    return element.text if element is not None else None


def _custom(root: Element, key: str) -> str | None:
    """Value of one of EPU's pairs of key and value."""
    for pair in root.iter():
        children = {_local(child): child.text for child in pair}
        if children.get("Key") == key:
            return children.get("Value")
    return None


def _pair(words: Sequence[str | None], factor: float = 1.0) -> tuple[float, float] | None:
    """Two finite numbers, or None."""
    values = [factor * float(word) for word in words if word]
    return (values[0], values[1]) if len(values) == 2 and all(map(math.isfinite, values)) else None


def _positive(text: str | None) -> float | None:
    value = float(text) if text else 0.0
    return value if 0 < value < float("inf") else None
