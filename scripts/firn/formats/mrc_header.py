"""The 1024 bytes that open an MRC file, believed only as far as the file's size bears them out.

Source: MRC2014 (Cheng et al., J. Struct. Biol. 192, 146, 2015). Mode 0 is signed, unless IMOD's stamp says unsigned. Mode 12 is
float16. Mode 101 packs two pixels into a byte, the left one in the low four bits, each row padded to whole bytes; SerialEM's older
way is mode 0 with half the width, told by flag 16 of IMOD or by the label "4 bits packed".
"""

import os
import struct
from dataclasses import dataclass

import numpy as np

from firn.errors import ExposureError
from firn.formats.compressed import open_unpacked, read_exactly

HEADER_BYTES = 1024
MAX_AXIS = 32768
MAX_SECTIONS = 10_000_000
MAX_EXTENDED = 64 * 2**20
GREATEST_RATIO = 50_000
"""Most bytes that one byte of a packed file may stand for."""
BITS = {0: 8, 1: 16, 2: 32, 4: 64, 6: 16, 12: 16, 101: 4}
TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", 101: "u1"}
IMOD_STAMP = 1146047817
SIGNED_FLAG, PACKED_FLAG = 1, 16
PIXEL_RANGE = (0.01, 1000.0)
"""Å. Pixel sizes outside are not believed."""


@dataclass(frozen=True)
class MrcHeader:
    """What the header says: mode, sides nx, ny, nz in pixels, extended header in bytes, pixel size x, y, z in Å (0 = not told), axes."""

    mode: int
    nx: int
    ny: int
    nz: int
    extended: int
    pixel_size: tuple[float, float, float]
    axes: tuple[int, int, int]
    order: str
    unsigned: bool
    packed: bool

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, padding included."""
        return (self.nx * BITS[self.mode] + 7) // 8

    @property
    def section_bytes(self) -> int:
        """Bytes of one section."""
        return self.ny * self.row_bytes

    @property
    def offset(self) -> int:
        """Byte at which the first section starts."""
        return HEADER_BYTES + self.extended

    @property
    def dtype(self) -> np.dtype:
        """Type of a stored pixel (of two pixels in mode 101), in the file's byte order."""
        return np.dtype("u1" if self.mode == 0 and self.unsigned else self.order + TYPES[self.mode])


def read_mrc_header(path: str | os.PathLike) -> MrcHeader:
    """Header of a plain or packed MRC file, consistent in itself and with the file's size.

    Raises ExposureError: UNREADABLE, CODEC, TRUNCATED, HEADER.
    """
    with open_unpacked(path) as (stream, packed):
        size = os.path.getsize(path)
        if not packed and size < HEADER_BYTES:
            raise ExposureError("TRUNCATED", f"{path}: is {size} bytes long, shorter than the {HEADER_BYTES} bytes of an MRC header")
        header = parse_header(bytes(read_exactly(stream, HEADER_BYTES, path)), packed, path)
    _check_size(path, header, size)
    return header


def parse_header(data: bytes, packed: bool, path: str | os.PathLike) -> MrcHeader:
    """Header from its 1024 bytes; packed says whether the file was compressed. Raises ExposureError HEADER for an impossible one."""
    order = ">" if data[212:213] == b"\x11" else "<"
    nx, ny, nz, mode = struct.unpack(f"{order}4i", data[:16])
    grid, cell = struct.unpack(f"{order}3i", data[28:40]), struct.unpack(f"{order}3f", data[40:52])
    axes = struct.unpack(f"{order}3i", data[64:76])
    (extended,) = struct.unpack(f"{order}i", data[92:96])
    stamp, flags = struct.unpack(f"{order}2i", data[152:160])
    flags = flags if stamp == IMOD_STAMP else SIGNED_FLAG
    if mode not in BITS:
        raise ExposureError("HEADER", f"{path}: has MRC mode {mode}, which is none of {', '.join(map(str, BITS))}")
    if mode == 0 and (flags & PACKED_FLAG or b"4 bits packed" in data[224:304]):
        mode, grid, nx = 101, (2 * grid[0] if grid[0] == nx else grid[0], *grid[1:]), 2 * nx
    if not (1 <= nx <= MAX_AXIS and 1 <= ny <= MAX_AXIS and 1 <= nz <= MAX_SECTIONS and 0 <= extended <= MAX_EXTENDED):
        raise ExposureError("HEADER", f"{path}: has an impossible header ({nx} x {ny} x {nz}, {extended} bytes of extended header)")
    pixels = _pixel_sizes(cell, grid, (nx, ny))
    return MrcHeader(mode, nx, ny, nz, extended, pixels, (axes[0], axes[1], axes[2]), order, not flags & SIGNED_FLAG, packed)


def _pixel_sizes(cell: tuple[float, ...], grid: tuple[int, ...], shape: tuple[int, int]) -> tuple[float, float, float]:
    """Å along x, y, z; 0 where the header does not tell. A grid of one point over many pixels tells nothing."""
    if grid[0] == 1 and shape[0] > 1:
        return 0.0, 0.0, 0.0
    sizes = [side / points if points > 0 else 0.0 for side, points in zip(cell, grid, strict=True)]
    x, y, z = (size if PIXEL_RANGE[0] <= size <= PIXEL_RANGE[1] else 0.0 for size in sizes)
    return x, y, z


def _check_size(path: str | os.PathLike, header: MrcHeader, size: int) -> None:
    wanted = header.offset + header.nz * header.section_bytes
    if header.packed and wanted > GREATEST_RATIO * size:
        raise ExposureError("HEADER", f"{path}: has {size} packed bytes, which cannot be the {wanted} that its header asks for")
    if not header.packed and size < wanted:
        pixels = header.nx * header.ny * header.nz
        fits = [mode for mode, bits in BITS.items() if header.offset + pixels * bits // 8 == size and mode != 101]
        if fits:
            modes = " or ".join(map(str, fits))
            raise ExposureError("HEADER", f"{path}: says MRC mode {header.mode}, but its {size} bytes are those of mode {modes}")
        raise ExposureError("TRUNCATED", f"{path}: is truncated: {size} bytes, but its header asks for {wanted}")
