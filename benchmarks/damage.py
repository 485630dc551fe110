"""How much damage to the pixels of a movie is noticed, by how the movie is stored.

Run: python benchmarks/damage.py [--flips 150] [--holes 60] [--cuts 40]

A movie of 12 frames of 256 x 256 px counted electrons is damaged once per try: one bit changed anywhere behind the header, 4 KiB in a row made
zero, or the file cut short. Printed per kind of file and damage: noticed (refused with a sentence), silent (other pixels without a word),
harmless (the same pixels), and of the silent ones the greatest share of pixels that differ.
"""

import argparse
import bz2
import logging
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import numpy as np
import tifffile

from firn.errors import ExposureError
from firn.formats.movie import iterate_frames, read_header
from firn.simulate.write_eer import write_eer_movie
from firn.simulate.write_movie import write_mrc_movie

FRAMES, SIDE, HOLE, HEADER = 12, 256, 4096, 1024
Damage = Callable[[bytes, random.Random], bytes]


def write_tiff(compression: str | None) -> Callable[[Path, np.ndarray], None]:
    """A writer of movies with one strip to a frame."""

    def write(path: Path, frames: np.ndarray) -> None:
        with tifffile.TiffWriter(path) as tiff:
            for frame in frames:
                tiff.write(frame, compression=compression, photometric="minisblack", contiguous=False, metadata=None)

    return write


def write_packed(path: Path, frames: np.ndarray) -> None:
    """An MRC movie packed with bzip2."""
    plain = path.with_suffix("")
    write_mrc_movie(plain, frames, 1.0)
    path.write_bytes(bz2.compress(plain.read_bytes()))


WRITERS: dict[str, tuple[str, Callable[[Path, np.ndarray], None]]] = {
    "TIFF LZW": ("a.tif", write_tiff("lzw")),
    "TIFF deflate": ("a.tif", write_tiff("zlib")),
    "TIFF zstd": ("a.tif", write_tiff("zstd")),
    "TIFF raw": ("a.tif", write_tiff(None)),
    "MRC": ("a.mrc", lambda path, frames: write_mrc_movie(path, frames, 1.0)),
    "MRC bzip2": ("a.mrc.bz2", write_packed),
    "EER": ("a.eer", lambda path, frames: write_eer_movie(path, frames, np.random.default_rng(2), pixel_size=1.0)),
}


def flip(data: bytes, rng: random.Random) -> bytes:
    """One bit changed."""
    place = rng.randrange(HEADER, len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def hole(data: bytes, rng: random.Random) -> bytes:
    """A block of the disk made zero."""
    place = rng.randrange(HEADER, len(data) - HOLE)
    return data[:place] + bytes(HOLE) + data[place + HOLE :]


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end left out."""
    return data[: rng.randrange(1, len(data))]


def read(path: Path) -> np.ndarray:
    """All frames; raises ExposureError."""
    read_header(path, eer_fractions=FRAMES)
    return np.stack(list(iterate_frames(path, eer_fractions=FRAMES, eer_upsampling=1)))


def judge(path: Path, data: bytes, damage: Damage, tries: int) -> tuple[int, int, int, float]:
    """(noticed, silent, harmless, greatest share of pixels that differ without a word)."""
    path.write_bytes(data)
    sound = read(path)
    noticed, silent, worst, rng = 0, 0, 0.0, random.Random(f"{path.name}{damage.__name__}")
    for _ in range(tries):
        path.write_bytes(damage(data, rng))
        try:
            frames = read(path)
        except ExposureError:
            noticed += 1
            continue
        differ = float(np.mean(frames != sound)) if frames.shape == sound.shape else 1.0
        silent, worst = silent + (differ > 0), max(worst, differ)
    return noticed, silent, tries - noticed - silent, worst


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, tries in (("flips", 150), ("holes", 60), ("cuts", 40)):
        parser.add_argument(f"--{name}", type=int, default=tries)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    movie = np.random.default_rng(1).poisson(1.5, (FRAMES, SIDE, SIDE)).astype(np.uint8)
    print(f"{'file':<14}{'damage':<8}{'noticed':>9}{'silent':>8}{'harmless':>10}{'worst share':>13}")
    with tempfile.TemporaryDirectory() as folder:
        for kind, (name, write) in WRITERS.items():
            path = Path(folder) / name
            write(path, movie)
            data = path.read_bytes()
            for damage, tries in ((flip, given.flips), (hole, given.holes), (cut, given.cuts)):
                noticed, silent, harmless, worst = judge(path, data, damage, tries)
                print(f"{kind:<14}{damage.__name__:<8}{noticed:>9}{silent:>8}{harmless:>10}{100 * worst:>11.3f} %", flush=True)


if __name__ == "__main__":
    main()
