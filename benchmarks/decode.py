"""Reading movies: decoded megabytes and electrons per second of one core, memory, and RELION's EER renderer on the same file.

Usage: python benchmarks/decode.py [--size 4096] [--frames 8] [--raw-frames 120] [--threads 1]
Movies are made in a temporary folder: Poisson counts of 0.8 per pixel for TIFF and MRC, 0.014 electrons per pixel and raw frame for EER.
Seconds are CPU time; the time includes firn's checks of every frame. RELION's includes writing its TIFF.
"""

import argparse
import bz2
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import numpy as np
import tifffile

from firn.formats.movie import iterate_frames
from firn.simulate.write_eer import write_eer_movie
from firn.simulate.write_movie import write_mrc_movie

RATE, EER_RATE, GROUP = 0.8, 0.014, 40


def main() -> None:
    """Make the movies and read each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 4096), ("frames", 8), ("raw-frames", 120), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report_images(args, Path(folder))
        report_eer(args, Path(folder))


def report_images(args: argparse.Namespace, folder: Path) -> None:
    """One line per way of storing frames."""
    chance = np.random.default_rng(1)
    frames = [chance.poisson(RATE, (args.size, args.size)).astype(np.uint8) for _ in range(args.frames)]
    for compression in ("lzw", "zlib", "zstd", None):
        path = folder / "m.tif"
        with tifffile.TiffWriter(path) as tiff:
            for frame in frames:
                tiff.write(frame, compression=compression, rowsperstrip=64, photometric="minisblack", contiguous=False, metadata=None)
        print(line(f"TIFF {compression or 'plain'}", path, args.threads))
    path = folder / "m.mrc"
    write_mrc_movie(path, frames[:2], 1.0, np.int8)
    print(line("MRC mode 0", path, args.threads))
    (folder / "m.mrc.bz2").write_bytes(bz2.compress(path.read_bytes()))
    print(line("MRC mode 0, bz2", folder / "m.mrc.bz2", args.threads))


def line(name: str, path: Path, threads: int) -> str:
    """Decoded megabytes per second."""
    start = time.process_time()
    decoded = sum(frame.nbytes for frame in iterate_frames(path, threads=threads))
    spent = time.process_time() - start
    ratio = decoded / path.stat().st_size
    return f"{name:18s} {decoded / spent / 1e6:7.0f} MB/s of a core ({ratio:.1f} times packed), peak memory {peak_gb():.2f} GB"


def report_eer(args: argparse.Namespace, folder: Path) -> None:
    """One line per upsampling, and RELION's where it is installed."""
    chance = np.random.default_rng(2)
    path = folder / "m.eer"
    shape = (args.raw_frames, args.size, args.size)
    raw = [chance.random(shape[1:], dtype=np.float32) < EER_RATE for _ in range(4)]
    write_eer_movie(path, (raw[number % 4] for number in range(shape[0])), chance)
    electrons = EER_RATE * np.prod(shape, dtype=float)
    fractions = max(1, args.raw_frames // GROUP)
    for upsampling in (1, 2, 4):
        start = time.process_time()
        for _ in iterate_frames(path, fractions, upsampling, args.threads):
            pass
        print(eer_line(f"EER, grid x {upsampling}", time.process_time() - start, args.raw_frames, electrons))
        if shutil.which("relion_convert_to_tiff") and upsampling < 4 and args.size == 4096:
            print(eer_line(f"RELION, grid x {upsampling}", relion_seconds(path, upsampling), args.raw_frames, electrons))


def relion_seconds(path: Path, upsampling: int) -> float:
    """CPU seconds of relion_convert_to_tiff."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["relion_convert_to_tiff", "--i", path.name, "--o", "out/", "--eer_grouping", str(GROUP), "--compression", "none"]
    subprocess.run([*command, "--eer_upsampling", str(upsampling)], cwd=path.parent, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def eer_line(name: str, seconds: float, raw_frames: int, electrons: float) -> str:
    """Time per raw frame and electrons per second."""
    speed = electrons / seconds / 1e6
    return (
        f"{name:18s} {1000 * seconds / raw_frames:7.1f} ms per raw frame, {speed:.1f} million electrons/s, peak memory {peak_gb():.2f} GB"
    )


def peak_gb() -> float:
    """Largest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
