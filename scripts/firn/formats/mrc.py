"""MRC images, stacks and volumes: numpy float32 in `(*n, y, x)` or `(z, y, x)`, with checked headers.

Source: MRC2014 (Cheng et al., J. Struct. Biol. 192, 146, 2015). Mode 12 is float16.
"""

import os
import struct
from pathlib import Path

import mrcfile
import numpy as np

from firn.errors import InputError

HEADER_BYTES = 1024
MAX_AXIS = 32768
MAX_EXTENDED = 64 * 2**20


def check_header(path: str | os.PathLike) -> tuple[int, int, int, int]:
    """(mode, nz, ny, nx) of an MRC file whose size agrees with its header.

    Raises InputError when the file is missing, too short, or its header cannot be true; reads 1024 bytes only.
    """
    try:
        size = os.path.getsize(path)
        with Path(path).open("rb") as stream:
            header = stream.read(HEADER_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(header) < HEADER_BYTES:
        raise InputError(f"{path}: is {size} bytes long, shorter than the {HEADER_BYTES} bytes of an MRC header")
    order = ">" if header[212:213] == b"\x11" else "<"
    nx, ny, nz, mode = struct.unpack(f"{order}4i", header[:16])
    (extended,) = struct.unpack(f"{order}i", header[92:96])
    _check_plausible(path, nx, ny, nz, mode, extended, size)
    return mode, nz, ny, nx


def _check_plausible(path: str | os.PathLike, nx: int, ny: int, nz: int, mode: int, extended: int, size: int) -> None:
    bits = {0: 8, 1: 16, 2: 32, 4: 64, 6: 16, 12: 16, 101: 4}.get(mode)
    if bits is None:
        raise InputError(f"{path}: has MRC mode {mode}, which is none of 0, 1, 2, 4, 6, 12, 101")
    if not (1 <= nx <= MAX_AXIS and 1 <= ny <= MAX_AXIS and 1 <= nz <= 10_000_000 and 0 <= extended <= MAX_EXTENDED):
        raise InputError(f"{path}: has an impossible header ({nx} x {ny} x {nz}, {extended} bytes of extended header)")
    wanted = HEADER_BYTES + extended + nz * ny * ((nx * bits + 7) // 8)
    if size < wanted:
        raise InputError(f"{path}: is truncated: {size} bytes, but its header asks for {wanted}")


def read_mrc(path: str | os.PathLike) -> tuple[np.ndarray, float]:
    """(data, pixel size in Å): float32 `(y, x)` for an image, `(n, y, x)` for a stack or volume."""
    check_header(path)
    with mrcfile.open(path, permissive=True) as mrc:
        data = np.array(mrc.data, dtype=np.float32)
        pixel_size = float(mrc.voxel_size.x)
    return (data[0] if data.ndim == 3 and data.shape[0] == 1 else data), pixel_size


def read_shape(path: str | os.PathLike) -> tuple[tuple[int, int, int], float]:
    """((n, y, x), pixel size in Å) from the header alone."""
    _, nz, ny, nx = check_header(path)
    with mrcfile.open(path, header_only=True, permissive=True) as mrc:
        return (nz, ny, nx), float(mrc.voxel_size.x)


def read_sections(path: str | os.PathLike, sections: np.ndarray) -> np.ndarray:
    """Float32 images `(len(sections), y, x)` of a stack, by 0-based section number, read without loading the rest."""
    count = check_header(path)[1]
    if len(sections) and (np.min(sections) < 0 or np.max(sections) >= count):
        raise InputError(f"{path}: holds {count} images, but image {int(np.max(sections)) + 1} is asked for")
    with mrcfile.mmap(path, mode="r", permissive=True) as mrc:
        data = mrc.data if mrc.data.ndim == 3 else mrc.data[None]
        return np.array(data[np.asarray(sections)], dtype=np.float32)


def write_image(path: str | os.PathLike, image: np.ndarray, pixel_size: float, float16: bool = False) -> None:
    """Write one image `(y, x)`; pixel_size in Å."""
    _write(path, image, pixel_size, float16, stack=False)


def write_stack(path: str | os.PathLike, images: np.ndarray, pixel_size: float, float16: bool = False) -> None:
    """Write an image stack `(n, y, x)` (ISPG 0, mz 1); pixel_size in Å."""
    _write(path, images, pixel_size, float16, stack=True)


def write_volume(path: str | os.PathLike, volume: np.ndarray, pixel_size: float) -> None:
    """Write a volume `(z, y, x)` (ISPG 1, mode 2, which every viewer opens); pixel_size in Å."""
    _write(path, volume, pixel_size, float16=False, stack=False)


def _write(path: str | os.PathLike, data: np.ndarray, pixel_size: float, float16: bool, stack: bool) -> None:
    path = Path(path)
    if float16 and data.size and np.abs(data).max() > np.finfo(np.float16).max:
        raise InputError(f"{path}: holds the value {np.abs(data).max():.0f}, beyond the 65504 of float16; write float32")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with mrcfile.new(partial, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(data, dtype=np.float16 if float16 else np.float32))
        if stack:
            mrc.set_image_stack()
        mrc.voxel_size = pixel_size
    os.replace(partial, path)
