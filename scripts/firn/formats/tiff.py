"""TIFF movies and images, page by page. Row 0 of an image is the last row of its TIFF page.

Source: TIFF 6.0; the row order is that of RELION, IMOD, SerialEM and MotionCor2.
A TIFF that is still being written opens as a valid, shorter movie, so offsets and sizes of all strips are checked.
"""

import io
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile

from firn.errors import ExposureError, brief
from firn.formats.storage import REFUSED
from firn.formats.streaming import in_order

MAX_AXIS = 32768
MAX_FRAMES = 10_000
GREATEST_RATIO = 50_000
"""Most bytes that one byte of a compressed strip may stand for."""
PIXEL_RANGE = (0.05, 50.0)
"""Å. Pixel sizes outside are not believed."""
UNCOMPRESSED, LZW = 1, 5
DAMAGE = (
    RuntimeError,
    ArithmeticError,
    ValueError,
    OSError,
    TypeError,
    LookupError,
    EOFError,
    MemoryError,
    AttributeError,
    struct.error,
    tifffile.TiffFileError,
)


@contextmanager
def no_surprise(path: str | os.PathLike) -> Iterator[None]:
    """Turns what a damaged header makes a library raise into an ExposureError HEADER."""
    try:
        yield
    except ExposureError:
        raise
    except DAMAGE as error:
        raise _blamed(path, error, "HEADER", f"its header makes no sense ({brief(error)})") from error


def _blamed(path: str | os.PathLike, error: Exception, code: str, remark: str) -> ExposureError:
    """UNREADABLE where the system did not hand out what the file holds, else the fault of what it holds."""
    if isinstance(error, OSError) and error.errno in REFUSED:
        return ExposureError("UNREADABLE", f"{path}: cannot be read ({error.strerror})")
    return ExposureError(code, f"{path}: {remark}")


@contextmanager
def open_pages(path: str | os.PathLike) -> Iterator[Any]:
    """The pages of a TIFF (or EER) file whose strips all lie inside the file.

    Raises ExposureError: EMPTY, UNREADABLE, HEADER, TRUNCATED, SHAPE, TOO_BIG.
    """
    size = file_size(path)
    try:
        tiff = tifffile.TiffFile(path)
    except DAMAGE as error:
        raise _blamed(path, error, "HEADER", f"cannot be opened as a TIFF file ({brief(error)})") from error
    with tiff:
        with no_surprise(path):
            pages = _list_pages(path, tiff)
            _check_pages(path, pages, size)
        yield pages


def tiff_shape(path: str | os.PathLike) -> tuple[int, int, int, float | None]:
    """(frames, height, width, pixel size in Å or None) of a TIFF file whose structure is sound.

    Raises ExposureError HEADER for pixels of an unknown type, and as open_pages.
    """
    with open_pages(path) as pages, no_surprise(path):
        _check_pixels(path, pages)
        return len(pages), int(pages[0].imagelength), int(pages[0].imagewidth), _pixel_size(pages[0])


def decode_tasks(path: str | os.PathLike, pages: list[Any]) -> Iterator[Callable[[], np.ndarray]]:
    """For each page a task that reads and decodes it to `(y, x)` in the stored type; tasks may run in several threads at once.

    A task raises ExposureError CODEC when its page cannot be decoded.
    """
    for number, page in enumerate(pages, start=1):
        yield partial(_decode, path, page, f"frame {number} of {len(pages)}")


def iterate_tiff(path: str | os.PathLike, threads: int = 1) -> Iterator[np.ndarray]:
    """Images `(y, x)` in the stored type, threads + 1 pages in memory at most.

    Raises ExposureError CODEC for a page that cannot be decoded, and as open_pages.
    """
    with open_pages(path) as pages:
        with no_surprise(path):
            _check_pixels(path, pages)
        yield from in_order(decode_tasks(path, pages), threads)


def read_text_tag(path: str | os.PathLike, tag: int) -> str | None:
    """Text of a tag of the first page, None where it is absent; raises ExposureError as open_pages."""
    with open_pages(path) as pages:
        value = pages[0].tags.valueof(tag, None)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None if value is None else str(value)


def read_strips(path: str | os.PathLike, page: Any) -> list[bytes]:
    """The stored bytes of each strip of a page; raises EOFError when the file has become shorter."""
    body, starts = _read_strips(path, page)
    return [body[start : start + count] for start, count in zip(starts, page.databytecounts, strict=True)]


def file_size(path: str | os.PathLike) -> int:
    """Bytes of a file; raises ExposureError UNREADABLE or EMPTY."""
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise ExposureError("UNREADABLE", f"{path}: cannot be read ({error.strerror})") from error
    if size == 0:
        raise ExposureError("EMPTY", f"{path}: is an empty file (0 bytes)")
    return size


def _list_pages(path: str | os.PathLike, tiff: tifffile.TiffFile) -> list[Any]:
    pages: list[Any] = []
    places: set[int] = set()
    try:
        for page in tiff.pages:
            pages.append(page)
            places.add(page.offset)
            if len(places) < len(pages):
                raise ExposureError(
                    "HEADER", f"{path}: its list of frames goes in a circle: after frame {len(pages) - 1} comes an earlier one"
                )
            if len(pages) > MAX_FRAMES:
                raise ExposureError("TOO_BIG", f"{path}: has more than {MAX_FRAMES} frames")
    except DAMAGE as error:
        if isinstance(error, ExposureError):
            raise
        raise ExposureError("TRUNCATED", f"{path}: its list of frames breaks off after frame {len(pages)} ({brief(error)})") from error
    if not pages:
        raise ExposureError("TRUNCATED", f"{path}: has a TIFF header, but no frame")
    if not _list_ends(tiff):
        raise ExposureError("TRUNCATED", f"{path}: is truncated: another frame should follow frame {len(pages)}, but the file ends before")
    return pages


def _list_ends(tiff: tifffile.TiffFile) -> bool:
    """Whether the last page says that none follows it; the library takes a link that leads out of the file for the end."""
    place, size = tiff.pages.next_page_offset, tiff.tiff.offsetsize
    if place is None:
        return False
    tiff.filehandle.seek(place)
    return bool(tiff.filehandle.read(size) == bytes(size))


def _check_pages(path: str | os.PathLike, pages: list[Any], size: int) -> None:
    shape = int(pages[0].imagelength), int(pages[0].imagewidth)
    if not all(1 <= side <= MAX_AXIS for side in shape):
        raise ExposureError("TOO_BIG", f"{path}: claims frames of {shape[1]} x {shape[0]} pixels; 1 to {MAX_AXIS} are allowed")
    for number, page in enumerate(pages, start=1):
        own = int(page.imagelength), int(page.imagewidth)
        if own != shape:
            raise ExposureError("SHAPE", f"{path}: frame {number} is {own[1]} x {own[0]} pixels, but frame 1 is {shape[1]} x {shape[0]}")
        if page.samplesperpixel != 1:
            raise ExposureError(
                "SHAPE", f"{path}: frame {number} has {int(page.samplesperpixel)} values in a pixel, as a coloured picture has"
            )
        _check_strips(path, number, page, size)


def _check_strips(path: str | os.PathLike, number: int, page: Any, size: int) -> None:
    offsets, counts = page.dataoffsets, page.databytecounts
    if not offsets or len(offsets) != len(counts) or min(offsets) == 0 or min(counts) == 0:
        raise ExposureError("TRUNCATED", f"{path}: frame {number} has no image data yet; the file was not written to its end")
    end = max(offset + count for offset, count in zip(offsets, counts, strict=True))
    if end > size:
        raise ExposureError("TRUNCATED", f"{path}: is truncated: frame {number} ends at byte {end}, but the file has {size}")


def _check_pixels(path: str | os.PathLike, pages: list[Any]) -> None:
    for number, page in enumerate(pages, start=1):
        if page.dtype is None:
            raise ExposureError("HEADER", f"{path}: frame {number} has pixels of {page.bitspersample} bits, which no program writes")
        stored, wanted = sum(page.databytecounts), page.imagelength * page.imagewidth * page.dtype.itemsize
        if wanted > GREATEST_RATIO * stored:
            raise ExposureError("HEADER", f"{path}: frame {number} has {stored} bytes, which cannot be the {wanted} of its pixels")


def _pixel_size(page: Any) -> float | None:
    """Å from the resolution tags, as SerialEM and IMOD write them; None where they are absent or those of a printed page."""
    unit = {2: 2.54e8, 3: 1e8}.get(int(page.tags.valueof(296, 1)))
    value = page.tags.valueof(282, None)
    if unit is None or value is None or 0 in value:
        return None
    size = unit * value[1] / value[0]
    return size if PIXEL_RANGE[0] <= size <= PIXEL_RANGE[1] else None


def _decode(path: str | os.PathLike, page: Any, where: str) -> np.ndarray:
    try:
        return _read_page(path, page)[::-1]
    except DAMAGE as error:
        raise _blamed(path, error, "CODEC", f"{where} cannot be decoded ({brief(error)})") from error


def _read_page(path: str | os.PathLike, page: Any) -> np.ndarray:
    """The page as it is stored, decoded from a small TIFF of its own, so that threads share nothing; LZW is libtiff's, which is fastest."""
    if page.compression == UNCOMPRESSED and page.bitspersample % 8 == 0 and not page.is_tiled:
        return _read_plain(path, page)
    single = _single_page(path, page)
    if page.compression == LZW and page.bitspersample % 8 == 0:
        image = imagecodecs.tiff_decode(single)
    else:
        with tifffile.TiffFile(io.BytesIO(single)) as tiff:
            image = tiff.pages[0].asarray()
    if image.shape != (page.imagelength, page.imagewidth):
        raise ValueError(f"it decodes to the shape {image.shape}")
    return image


def _read_plain(path: str | os.PathLike, page: Any) -> np.ndarray:
    """An uncompressed page as it is stored."""
    strips = read_strips(path, page)
    data = np.frombuffer(strips[0] if len(strips) == 1 else b"".join(strips), dtype=page.dtype.newbyteorder(page.parent.byteorder))
    image = data[: page.imagelength * page.imagewidth].reshape(page.imagelength, page.imagewidth)
    return image if image.dtype.isnative else image.astype(page.dtype)


def _single_page(path: str | os.PathLike, page: Any) -> bytes:
    """A little BigTIFF in memory that holds the strips or tiles of one page."""
    order = page.parent.byteorder
    body, starts = _read_strips(path, page)
    offsets, counts = [16 + start for start in starts], list(page.databytecounts)
    tags: list[tuple[int, list[int]]] = [(256, [page.imagewidth]), (257, [page.imagelength]), (258, [page.bitspersample])]
    tags += [(259, [int(page.compression)]), (262, [1]), (266, [int(page.fillorder)]), (277, [1]), (317, [int(page.predictor)])]
    tags += [(339, [int(page.sampleformat)])]
    if page.is_tiled:
        tags += [(322, [page.tilewidth]), (323, [page.tilelength]), (324, offsets), (325, counts)]
    else:
        tags += [(273, offsets), (278, [page.rowsperstrip]), (279, counts)]
    return _assemble(order, body, sorted(tags))


def _read_strips(path: str | os.PathLike, page: Any) -> tuple[bytes, list[int]]:
    """(bytes that hold all strips of the page, where each starts in them), in one reading when they lie together."""
    first = min(page.dataoffsets)
    last = max(offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    with Path(path).open("rb") as stream:
        if last - first <= 2 * sum(page.databytecounts):
            return _read_at(stream, first, last - first), [offset - first for offset in page.dataoffsets]
        parts = [_read_at(stream, offset, count) for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    ends = np.cumsum(page.databytecounts).tolist()
    return b"".join(parts), [0, *ends[:-1]]


def _read_at(stream: BinaryIO, offset: int, count: int) -> bytes:
    stream.seek(offset)
    data = stream.read(count)
    if len(data) < count:
        raise EOFError(f"{len(data)} of {count} bytes at byte {offset}")
    return data


def _assemble(order: str, body: bytes, tags: list[tuple[int, list[int]]]) -> bytes:
    """A BigTIFF file of one page: header, body, the arrays that do not fit into their entry, the directory."""
    arrays = bytearray(-len(body) % 8)
    start = 16 + len(body)
    entries = bytearray()
    for code, values in tags:
        packed = struct.pack(f"{order}{len(values)}Q", *values)
        if len(values) > 1:
            packed, arrays = struct.pack(f"{order}Q", start + len(arrays)), arrays + packed
        entries += struct.pack(f"{order}HHQ", code, 16, len(values)) + packed
    mark = b"II" if order == "<" else b"MM"
    header = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, start + len(arrays))
    directory = struct.pack(f"{order}Q", len(tags)) + bytes(entries) + struct.pack(f"{order}Q", 0)
    return header + body + bytes(arrays) + directory
