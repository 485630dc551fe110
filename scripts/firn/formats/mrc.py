"""MRC images, stacks and volumes, plain or packed (bzip2, gzip, xz): numpy in `(*n, y, x)` or `(z, y, x)`, with checked headers.

Sections are read one after the other, so that memory holds what is asked for and not the file.
Source: MRC2014 (Cheng et al., J. Struct. Biol. 192, 146, 2015); modes as in firn.formats.mrc_header.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import mrcfile
import numpy as np

from firn.errors import ExposureError, InputError
from firn.formats.compressed import open_unpacked, read_exactly
from firn.formats.mrc_header import MrcHeader, read_mrc_header

SECTIONS = 8
"""Images of a stack written at once: few enough for a processor's cache."""
ROWS = 64
"""Rows of an image written at once."""


def check_header(path: str | os.PathLike) -> tuple[int, int, int, int]:
    """(mode, nz, ny, nx) of an MRC file whose size agrees with its header.

    Raises InputError when the file is missing, too short, or its header cannot be true; reads 1024 bytes only.
    """
    header = read_mrc_header(path)
    return header.mode, header.nz, header.ny, header.nx


def iterate_sections(path: str | os.PathLike, threads: int = 1) -> Iterator[np.ndarray]:
    """Sections `(y, x)` in the stored type, native byte order, one at a time; mode 101 as uint8. Several threads unpack bzip2 together.

    Raises ExposureError: HEADER for transforms (mode 4), TRUNCATED and CODEC, and as read_mrc_header.
    """
    header = _image_header(path)
    with open_unpacked(path, threads) as (stream, _):
        read_exactly(stream, header.offset, path)
        for _ in range(header.nz):
            yield _unpack(read_exactly(stream, header.section_bytes, path), header)


def read_mrc(path: str | os.PathLike) -> tuple[np.ndarray, float]:
    """(data, pixel size in Å, 0 when not told): float32 `(y, x)` for an image, `(n, y, x)` for a stack or volume."""
    header = _image_header(path)
    shape = (header.nz, header.ny, header.nx)
    try:
        data = _read_plain(path, header) if is_plain(header) else np.empty(shape, dtype=np.float32)
    except MemoryError as error:
        raise InputError(f"{path}: has {header.nx} x {header.ny} x {header.nz} pixels, more than fit into memory") from error
    if not is_plain(header):
        for number, section in enumerate(iterate_sections(path)):
            data[number] = section
    data = data.reshape(shape)
    return (data[0] if header.nz == 1 else data), header.pixel_size[0]


def read_shape(path: str | os.PathLike) -> tuple[tuple[int, int, int], float]:
    """((n, y, x), pixel size in Å) from the header alone."""
    header = read_mrc_header(path)
    return (header.nz, header.ny, header.nx), header.pixel_size[0]


def read_sections(path: str | os.PathLike, sections: np.ndarray) -> np.ndarray:
    """Float32 images `(len(sections), y, x)` of a stack, by 0-based section number; of a plain file only those are read."""
    header = _image_header(path)
    if len(sections) and (np.min(sections) < 0 or np.max(sections) >= header.nz):
        raise InputError(f"{path}: holds {header.nz} images, but image {int(np.max(sections)) + 1} is asked for")
    if not is_plain(header):
        wanted = set(np.asarray(sections).tolist())
        kept = {number: section for number, section in enumerate(iterate_sections(path)) if number in wanted}
        return np.array([kept[int(number)] for number in sections], dtype=np.float32).reshape(-1, header.ny, header.nx)
    with Path(path).open("rb") as stream:
        return take_sections(stream, header, sections)


def take_sections(stream: BinaryIO, header: MrcHeader, sections: np.ndarray) -> np.ndarray:
    """Float32 images `(len(sections), y, x)` of an open plain stack with this header, by 0-based section number."""
    data = np.memmap(stream, dtype=header.dtype, mode="r", offset=header.offset, shape=(header.nz, header.ny, header.nx))
    return np.array(data[np.asarray(sections, dtype=np.intp)], dtype=np.float32)


def is_plain(header: MrcHeader) -> bool:
    """Whether the pixels lie in the file as numpy stores them."""
    return not header.packed and header.mode != 101


def _read_plain(path: str | os.PathLike, header: MrcHeader) -> np.ndarray:
    """All pixels, flat float32, in one reading."""
    count = header.nz * header.ny * header.nx
    data = np.fromfile(path, dtype=header.dtype, count=count, offset=header.offset)
    if len(data) < count:
        raise ExposureError("TRUNCATED", f"{path}: is truncated: it became shorter while it was read")
    return data.astype(np.float32, copy=False)


def _image_header(path: str | os.PathLike) -> MrcHeader:
    header = read_mrc_header(path)
    if header.mode == 4:
        raise ExposureError("HEADER", f"{path}: has MRC mode 4, a transform; images of mode 0, 1, 2, 6, 12 and 101 are read")
    return header


def _unpack(data: bytearray, header: MrcHeader) -> np.ndarray:
    """One section from its bytes."""
    if header.mode != 101:
        values = np.frombuffer(data, dtype=header.dtype).reshape(header.ny, header.nx)
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
    packed = np.frombuffer(data, dtype=np.uint8).reshape(header.ny, header.row_bytes)
    image = np.empty((header.ny, header.nx), dtype=np.uint8)
    image[:, 0::2] = packed & 15
    image[:, 1::2] = packed[:, : header.nx // 2] >> 4
    return image


def write_image(path: str | os.PathLike, image: np.ndarray, pixel_size: float, float16: bool = False) -> None:
    """Write one image `(y, x)`; pixel_size in Å."""
    _write(path, image, pixel_size, float16, stack=False)


def write_stack(path: str | os.PathLike, images: np.ndarray, pixel_size: float, float16: bool = False) -> None:
    """Write an image stack `(n, y, x)` (ISPG 0, mz 1); pixel_size in Å."""
    _write(path, images, pixel_size, float16, stack=True)


def write_stack_parts(
    path: str | os.PathLike, parts: Iterable[np.ndarray], shape: tuple[int, int, int], pixel_size: float, float16: bool = False
) -> None:
    """Write an image stack of the shape `(n, y, x)` from its parts `(m, y, x)` in turn, so that memory holds but one of them."""
    _write(path, np.broadcast_to(np.float32(0), shape), pixel_size, float16, stack=True, parts=parts)


def write_volume(path: str | os.PathLike, volume: np.ndarray, pixel_size: float) -> None:
    """Write a volume `(z, y, x)` (ISPG 1, mode 2, which every viewer opens); pixel_size in Å."""
    _write(path, volume, pixel_size, float16=False, stack=False)


def _write(
    path: str | os.PathLike, data: np.ndarray, pixel_size: float, float16: bool, stack: bool, parts: Iterable[np.ndarray] | None = None
) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    kind, by_parts = np.dtype(np.float16 if float16 else np.float32), data.size > 0 and (stack or data.ndim == 2)
    try:
        with mrcfile.new(partial, overwrite=True) as mrc:
            mrc.set_data(np.zeros_like(data[:1], dtype=kind) if by_parts else np.ascontiguousarray(data, dtype=kind))
            if stack:
                mrc.set_image_stack()
            mrc.voxel_size = pixel_size
            header = mrc.header.copy()
        if by_parts and stack:
            header.nz = len(data)
            _write_parts(path, partial, header, (data,) if parts is None else parts, kind, SECTIONS)
        elif by_parts:
            header.ny = header.my = len(data)
            header.cella.y *= len(data)
            _write_parts(path, partial, header, (data,), kind, ROWS)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write_parts(path: Path, partial: Path, header: np.recarray, parts: Iterable[np.ndarray], kind: np.dtype, count: int) -> None:
    """Write images or rows under their header, so many at a time; statistics are those of the data as given."""
    sums, low, high, size, origin = np.zeros(2), np.inf, -np.inf, 0, None
    with partial.open("wb") as stream:
        stream.write(header.tobytes())
        for block in (part[start : start + count] for part in parts for start in range(0, len(part), count)):
            flat = np.ascontiguousarray(block, dtype=np.float32).reshape(-1)
            origin = flat.mean() if origin is None else origin
            low, high, size = min(low, float(flat.min())), max(high, float(flat.max())), size + flat.size
            centred = flat - origin
            sums += centred.sum(dtype=np.float32), np.dot(centred, centred)
            if kind == np.float16:
                _check_range(path, np.array((low, high)))
            (to_half(flat) if kind == np.float16 else flat).tofile(stream)
        mean, square = sums / size
        header.dmin, header.dmax = kind.type(low), kind.type(high)
        header.dmean, header.rms = mean + (0 if origin is None else origin), max(square - mean**2, 0.0) ** 0.5
        stream.seek(0)
        stream.write(header.tobytes())


def to_half(values: np.ndarray) -> np.ndarray:
    """Float32 values, finite and up to 65504 in size, as the nearest float16: as astype, three times as fast.

    Ties go to even; below 2^-14, values within 2^-38 of a tie may go either way. 2^-112 brings the exponent of a float16
    into the place of that of a float32, subnormal numbers included (IEEE 754, 3.6).
    """
    bits = (values * np.float32(2.0**-112)).view(np.uint32)
    sign = (bits >> 16).astype(np.uint16)
    sign &= 0x8000
    bits &= 0x7FFFFFFF
    odd = bits >> 13
    odd &= 1
    bits += odd
    bits += 0xFFF
    bits >>= 13
    half = bits.astype(np.uint16)
    half |= sign
    return half.view(np.float16)


def _check_range(path: Path, data: np.ndarray) -> None:
    greatest = float(np.abs(data).max()) if data.size else 0.0
    if greatest > float(np.finfo(np.float16).max):
        raise InputError(f"{path}: holds the value {greatest:.0f}, beyond the 65504 of float16; write float32")
