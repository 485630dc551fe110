"""The fused worker from movies to particles: seconds of each stage, against floors measured in the same run and RELION's motion correction.

Usage: python benchmarks/preprocess.py [--threads 1 2] [--movies 4] [--size-px 2048] [--frames 20] [--box-px 256] [--device cpu] ...
Prints per number of threads: seconds on the clock and CPU seconds of a movie, movies per hour, median seconds of each stage, memory, and
particles cut and written per second. The floor of reading and motion is what cannot be left out: the frames decoded, each gone through three
times (gain, alignment, sum), and six Fourier transforms of the whole frame for the dose weights. RELION corrects the same movies with 5 x 5
patches. With a GPU at hand the same line tells its seconds; the floor is then that of the processor's decoding alone.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import numpy as np
import torch
from motion_vs_relion import run_relion

from firn.families.fused import STAGES
from firn.formats.movie import iterate_frames
from firn.formats.tables import read_table
from firn.jobs import import_movies, preprocess, simulate_movies
from firn.kernels.fourier import plain_irfft2, plain_rfft2
from firn.runtime.entry import open_job

PASSES, TRANSFORMS = 3, 6
BATCH = Path("batches/0001")


def main() -> None:
    """Simulate, run at each number of threads, compare."""
    args = parse()
    with tempfile.TemporaryDirectory() as scratch, chdir(Path(args.folder or scratch)):
        if not Path("results/sim/job.json").exists():
            settings = {name: getattr(args, name) for name in ("movies", "size_px", "frames", "seed", "dose_per_frame")} | {"dirty": 0}
            run(simulate_movies, "sim", settings, {}, 1)
        run(import_movies, "movies", {"source": "sim", "batch_size": 1000}, {"source": ["results/sim"]}, 1)
        for threads in args.threads:
            torch.set_num_threads(threads)
            print(f"{threads} threads: {worker(args, threads)}", flush=True)
            if shutil.which("relion_run_motioncorr"):
                seconds = run_relion(argparse.Namespace(patches=5, threads=threads, dose_per_frame=args.dose_per_frame))
                print(f"  RELION's motion correction: {seconds.wall / args.movies:.2f} s per movie, CPU {seconds.cpu / args.movies:.2f} s")


def parse() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=None, help="keep (and use again) the simulated movies there")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    for name, kind, default in (
        ("movies", int, 4), ("size-px", int, 2048), ("frames", int, 20), ("seed", int, 5), ("dose-per-frame", float, 1.5), ("box-px", int, 256),
        ("min-diameter", float, 90.0), ("max-diameter", float, 130.0),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    return parser.parse_args()


def run(
    module: Any, name: str, settings: dict[str, Any], inputs: dict[str, list[str]], threads: int, home: Path = Path()
) -> dict[str, Any]:
    """The record of a job, run in this process."""
    home = Path("results", name) / home
    with open_job(module.Params, settings, inputs, home, name, home.name if home.name.isdigit() else None, threads) as job:
        module.run(job)
    record: dict[str, Any] = json.loads((home / "job.json").read_text())
    return record


def worker(args: argparse.Namespace, threads: int) -> str:
    """What the fused worker took for the batch."""
    settings = {
        "exposures": "movies", "extract_box_px": args.box_px, "extract_float16": True,
        "blob_min_diameter": args.min_diameter, "blob_max_diameter": args.max_diameter,
    }  # fmt: skip
    wall, cpu = time.monotonic(), time.process_time()
    record = run(preprocess, f"all_{threads}", settings, {"exposures": [f"results/movies/{BATCH}"]}, threads, BATCH)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    table = read_table(f"results/all_{threads}/{BATCH}/exposures.star", "exposures")
    particles = len(read_table(f"results/all_{threads}/{BATCH}/particles.star", "particles"))
    stages = {stage: float(table[f"seconds_{stage}"].median()) for stage in STAGES}
    lowest = floor(str(table["movie"].iloc[0]), threads)
    return "\n".join(
        (
            f"{wall / len(table):.2f} s per movie ({3600 * len(table) / wall:.0f} per hour), CPU {cpu / len(table):.2f} s, "
            f"{record['peak_memory_mb']:.0f} MB on {record['device']}",
            "  median seconds: " + ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items()),
            f"  {particles / table['seconds_extract'].sum():.0f} particles of {args.box_px} px cut and written per second ({particles} in all)",
            f"  reading and motion {stages['read'] + stages['motion']:.2f} s; floor {lowest:.2f} s of one thread",
        )
    )


def floor(movie: str, threads: int) -> float:
    """Seconds for what a movie's correction cannot leave out, one after the other on one thread."""
    frames: list[torch.Tensor] = []
    decode = timed(lambda: frames.extend(torch.from_numpy(np.ascontiguousarray(frame)) for frame in iterate_frames(movie)))
    torch.set_num_threads(1)
    one = frames[0].float()
    passes = timed(lambda: one * 1.5) * len(frames) * PASSES
    transforms = timed(lambda: plain_irfft2(plain_rfft2(one), (one.shape[0], one.shape[1]))) / 2 * TRANSFORMS
    torch.set_num_threads(threads)
    return decode + passes + transforms


def timed(work: Callable[[], Any]) -> float:
    """CPU seconds of the work."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
