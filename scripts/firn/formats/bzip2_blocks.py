"""bzip2 by several threads: the blocks of a stream are independent, and each begins with a mark of 48 bits at any bit.

Each block becomes a stream of its own: the header, its bits, the mark of the end, and the check sum of the whole, which for one block is
that of the block. Files of one stream and of many (pbzip2) are read alike. A mark that stands in the data by chance (once in 3·10¹⁴ bits)
gives a block whose check sum fails.
Source: the format as described by J. Tsai, "BZIP2: Format Specification" (2016).
"""

import bz2
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import BinaryIO

from firn.formats.streaming import in_order

BLOCK, END = 0x314159265359, 0x177245385090
MARK_BITS, SUM_BITS = 48, 32
PIECE = 4 * 2**20
LONGEST_BLOCK = 4 * 2**20
"""Bytes. A block holds 900 000 bytes at most before it is packed."""


class Bzip2Reader:
    """Unpacked bytes of a bzip2 file, read in order; raises EOFError for a file cut short, OSError or ValueError for damaged data."""

    def __init__(self, stream: BinaryIO, threads: int):
        self._blocks = in_order(_tasks(stream), threads)
        self._rest = memoryview(b"")

    def read(self, count: int) -> bytes:
        """The next count bytes, fewer only at the end."""
        parts = []
        while count > 0:
            if not len(self._rest):
                block = next(self._blocks, None)
                if block is None:
                    break
                self._rest = memoryview(block)
            parts.append(bytes(self._rest[:count]))
            self._rest = self._rest[len(parts[-1]) :]
            count -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """End the threads."""
        self._blocks.close()


def _tasks(stream: BinaryIO) -> Iterator[Callable[[], bytes]]:
    """A task for each block that unpacks it."""
    buffer, ended = b"", True
    while piece := stream.read(PIECE):
        buffer += piece
        marks = _find_marks(buffer)
        for (start, is_block), (stop, _) in pairwise(marks):
            if is_block:
                yield partial(_unpack, buffer[start // 8 : -(-stop // 8)], start % 8, -stop % 8)
        if marks:
            ended = not marks[-1][1]
            buffer = buffer[marks[-1][0] // 8 :]
        if len(buffer) > PIECE + LONGEST_BLOCK:
            raise ValueError("no bzip2 block begins where one must")
    if not ended or len(buffer) < (MARK_BITS + SUM_BITS) // 8:
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")


def _unpack(data: bytes, before: int, after: int) -> bytes:
    """A block that lies in the data but for some bits before and after it."""
    bits = 8 * len(data) - before - after
    block = (int.from_bytes(data, "big") >> after) & ((1 << bits) - 1)
    check = (block >> (bits - MARK_BITS - SUM_BITS)) & (2**SUM_BITS - 1)
    whole = (((block << MARK_BITS) | END) << SUM_BITS) | check
    padding = -(bits + MARK_BITS + SUM_BITS) % 8
    return bz2.decompress(b"BZh9" + (whole << padding).to_bytes((bits + MARK_BITS + SUM_BITS + padding) // 8, "big"))


def _find_marks(data: bytes) -> list[tuple[int, bool]]:
    """(bit at which it starts, whether a block and not the end of a stream starts there) of every mark, in order."""
    found: list[tuple[int, bool]] = []
    for mark in (BLOCK, END):
        for shift in range(8):
            found += [(bit, mark == BLOCK) for bit in _find_shifted(data, mark, shift)]
    return sorted(found)


def _find_shifted(data: bytes, mark: int, shift: int) -> Iterator[int]:
    """Bits, of those with this remainder by 8, at which the mark starts: its whole bytes are looked for, then its ends compared."""
    length = (MARK_BITS + shift + 7) // 8
    spare = 8 * length - MARK_BITS - shift
    pattern = (mark << spare).to_bytes(length, "big")
    inner = slice(1 if shift else 0, length - 1 if spare else length)
    place = data.find(pattern[inner])
    while place >= 0:
        start = place - inner.start
        if start >= 0 and (int.from_bytes(data[start : start + length], "big") >> spare) & (2**MARK_BITS - 1) == mark:
            yield 8 * start + shift
        place = data.find(pattern[inner], place + 1)
