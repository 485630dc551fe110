"""From patterns of file names to checked exposures in batches: what every import of images shares."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from firn.errors import ExposureError, InputError
from firn.formats.ids import exposure_id
from firn.formats.movie import MovieHeader, movie_format, read_header
from firn.formats.names import can_hold, check_name
from firn.formats.patterns import matching
from firn.formats.storage import blame_storage
from firn.formats.streaming import in_order

PIXEL_TOLERANCE = 0.05
HEADERS_AT_ONCE = 4
ESCAPED = re.compile(r"\[([*?[])\]")


def expand_files(patterns: str | Sequence[str]) -> list[str]:
    """Files that match the pattern or patterns (`*`, `?`, `[]`, `**`), or are named by them letter by letter, sorted, each once.

    Raises InputError naming a pattern that matches no file.
    """
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        names = [pattern] if Path(pattern).is_file() else matching(pattern)
        matches = {str(Path(name)) for name in names if Path(name).is_file()}
        if not matches:
            hint = "; write [[] for a bracket that is part of a name" if "[" in pattern else ""
            raise InputError(f"files: nothing matches '{pattern}' (looked in {Path(pattern).parent.resolve()}){hint}")
        found |= matches
    return sorted(found)


def named_files(patterns: str | Sequence[str]) -> list[str]:
    """Files that patterns without wildcards name (a name's own `*`, `?`, `[` in brackets), sorted, each once, also those that are gone."""
    names = [patterns] if isinstance(patterns, str) else patterns
    return sorted({str(Path(ESCAPED.sub(r"\1", name))) for name in names})


def check_headers(
    paths: Iterable[str], eer_fractions: int = 40, eer_upsampling: int = 2
) -> tuple[dict[str, MovieHeader], dict[str, ExposureError]]:
    """(headers of sound files, faults of the others), by path, each in the order of the paths.

    Some are read at once, since on a shared disk nearly all of the time is waiting.
    """
    headers: dict[str, MovieHeader] = {}
    faults: dict[str, ExposureError] = {}
    for path, found in in_order((partial(_try_header, path, eer_fractions, eer_upsampling) for path in paths), HEADERS_AT_ONCE):
        if isinstance(found, ExposureError):
            blame_storage(path, found)
            faults[path] = found
        else:
            headers[path] = found
    return headers, faults


def _try_header(path: str, eer_fractions: int, eer_upsampling: int) -> tuple[str, MovieHeader | ExposureError]:
    try:
        check_name(path)
        return path, read_header(path, eer_fractions, eer_upsampling)
    except ExposureError as fault:
        return path, fault


def split_odd_ones(headers: dict[str, MovieHeader]) -> tuple[dict[str, MovieHeader], dict[str, ExposureError]]:
    """(files like the majority, faults SHAPE or FRAMES of the others): first by image size, then by number of frames."""
    if not headers:
        return {}, {}
    shape, _ = Counter((header.width, header.height) for header in headers.values()).most_common(1)[0]
    alike = {path: header for path, header in headers.items() if (header.width, header.height) == shape}
    frames, _ = Counter(header.frames for header in alike.values()).most_common(1)[0]
    good = {path: header for path, header in alike.items() if header.frames == frames}
    return good, {path: _odd_fault(path, header, shape, frames) for path, header in headers.items() if path not in good}


def first_like_all(paths: Sequence[str], eer_fractions: int = 40, eer_upsampling: int = 2) -> dict[str, MovieHeader]:
    """The header of the first file, taken for all of them; raises ExposureError when that one is bad."""
    header = read_header(paths[0], eer_fractions, eer_upsampling)
    kind = movie_format(paths[0])
    return {path: header for path in paths if movie_format(path) == kind}


def doubt_pixel_size(headers: dict[str, MovieHeader], given: float | None) -> str | None:
    """A remark on the first header whose pixel size is another than the one given, or the 1 Å of programs that do not know it."""
    for path, header in headers.items():
        found = header.pixel_size
        if found is None:
            continue
        unknown = abs(found - 1) < 1e-6
        if given is not None and not unknown and abs(found - given) > PIXEL_TOLERANCE * given:
            return f"{path}: its header tells a pixel size of {found:.4g} Å, but pixel_size is {given:g} Å, which is taken"
        if given is None and unknown:
            return (
                f"{path}: its header tells a pixel size of exactly 1 Å, as programs write when they do not know; give pixel_size to be sure"
            )
    return None


def batch_names(count: int, batch_size: int) -> list[str]:
    """Batch id of each of count exposures in a row: `0001` for the first batch_size, and so on."""
    return [f"{number // batch_size + 1:04d}" for number in range(count)]


def identify(path: str | os.PathLike) -> str:
    """Stable id of an exposure from its path relative to the working (run) folder."""
    return exposure_id(os.path.relpath(path))


def failed_rows(faults: dict[str, ExposureError], column: str) -> pd.DataFrame:
    """Table of kind `failed`; column is `movie` or `micrograph`."""
    return pd.DataFrame(
        {
            "exposure_id": [identify(path) for path in faults],
            column: [path if can_hold(path) else repr(path) for path in faults],
            "reason_code": [fault.code for fault in faults.values()],
            "reason": [str(fault) for fault in faults.values()],
        }
    )


def _odd_fault(path: str, header: MovieHeader, shape: tuple[int, int], frames: int) -> ExposureError:
    if (header.width, header.height) != shape:
        return ExposureError("SHAPE", f"{path}: is {header.width} x {header.height} pixels, but most others are {shape[0]} x {shape[1]}")
    return ExposureError("FRAMES", f"{path}: has {header.frames} frames, but most others have {frames}")
