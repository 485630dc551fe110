"""bzip2 by blocks gives what the library gives, for one stream and for many, and notices every cut."""

import bz2
import io

import numpy as np
import pytest

from firn.formats.bzip2_blocks import Bzip2Reader

DATA = np.random.default_rng(1).poisson(0.8, 2_500_000).astype(np.uint8).tobytes()


def unpack(packed: bytes, threads: int = 2) -> bytes:
    reader = Bzip2Reader(io.BytesIO(packed), threads)
    try:
        return reader.read(10**9)
    finally:
        reader.close()


@pytest.mark.parametrize("level", [1, 5, 9])
@pytest.mark.parametrize("threads", [1, 3])
def test_one_stream_of_many_blocks_is_unpacked_in_order(level: int, threads: int) -> None:
    assert unpack(bz2.compress(DATA, level), threads) == DATA


def test_streams_one_after_the_other_are_one_file() -> None:
    packed = bz2.compress(DATA[:1_200_000]) + bz2.compress(b"") + bz2.compress(DATA[1_200_000:1_300_000], 1)
    assert unpack(packed) == DATA[:1_300_000]
    assert unpack(bz2.compress(b"")) == b""


def test_bytes_are_given_in_the_portions_asked_for() -> None:
    reader = Bzip2Reader(io.BytesIO(bz2.compress(DATA)), 2)
    parts = [reader.read(count) for count in (0, 1, 1023, 1_000_000)]
    reader.close()
    assert [len(part) for part in parts] == [0, 1, 1023, 1_000_000]
    assert b"".join(parts) == DATA[:1_001_024]


def test_a_file_cut_anywhere_is_noticed() -> None:
    packed = bz2.compress(DATA)
    for share in (0.0001, 0.3, 0.7, 0.99, 1 - 2 / len(packed)):
        with pytest.raises((EOFError, OSError, ValueError)):
            unpack(packed[: int(share * len(packed))])


def test_a_changed_bit_is_noticed_by_the_check_sum_of_its_block() -> None:
    packed = bytearray(bz2.compress(DATA))
    packed[len(packed) // 2] ^= 4
    with pytest.raises((OSError, ValueError)):
        unpack(bytes(packed))
