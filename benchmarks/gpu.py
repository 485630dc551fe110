"""What one GPU does: scores, slices, motion, CTF, picking, 2D classification and refinement, each as a rate.

    python benchmarks/gpu.py [--device cuda] [--out benchmarks/out/gpu]
    python benchmarks/gpu.py --device cpu --small      # tries the script

All data are simulated here. Kernels and preprocessing work on arrays in memory: reading and decoding files is another matter (decode.py).
Each is run once to warm up, which also compiles, and timed over `--repeats` turns; jobs are timed once, from files to files. The time of a whole
refinement is an estimate, particles times iterations times what a particle took in the sample, and is printed as one. Meant to take about six
minutes on a GPU of the H100 class.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch

from firn.families.blobs import BlobParams, pick_blobs
from firn.kernels.backproject import empty_sums, insert_points_
from firn.kernels.ctf import ctf_2d
from firn.kernels.ctf_fit import Optics
from firn.kernels.fourier import frequencies2, irfft2, rfft2
from firn.kernels.grid import fourier_disc
from firn.kernels.half_precision import half_columns, half_rows
from firn.kernels.project import project_table
from firn.kernels.rotation import random_rotations
from firn.kernels.score import fast_marginals, marginals_, marginals_are_fast, score_poses
from firn.kernels.spectrum import spectrum_table
from firn.preprocess.ctf import estimate_ctf
from firn.preprocess.ctf_spectrum import CtfSettings
from firn.preprocess.frame_sum import sum_frames
from firn.preprocess.frames import prepare_frames
from firn.preprocess.motion import Settings, estimate_motion

WHOLE, ITERATIONS = 149_000, 12
"""Particles and iterations of the refinement that is estimated."""
FULL: dict[str, tuple[int, ...]] = {
    "score": (512, 49, 36864, 400), "slices": (256, 100, 512), "movie": (40, 4092, 5760), "classify": (20_000, 128, 100), "refine": (5_000, 256, 3)
}  # fmt: skip
SMALL: dict[str, tuple[int, ...]] = {
    "score": (4, 9, 576, 100), "slices": (64, 20, 8), "movie": (6, 512, 640), "classify": (60, 48, 2), "refine": (60, 32, 2)
}  # fmt: skip


def main() -> None:
    """Print a line for each."""
    options = parse()
    device = torch.device(options.device)
    print(f"{device}: {torch.cuda.get_device_name(device) if device.type == 'cuda' else 'the CPU'}, torch {torch.__version__}", flush=True)
    sizes = SMALL if options.small else FULL
    with torch.inference_mode():
        score(device, *sizes["score"], options.repeats)
        slices(device, *sizes["slices"], options.repeats)
        micrograph = motion(device, *sizes["movie"])
        exposures(device, micrograph, options.repeats)
    if not options.no_jobs:
        jobs(options, device, sizes)


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes for a try")
    parser.add_argument("--no-jobs", action="store_true", help="leave out 2D classification and refinement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "gpu")
    return parser.parse_args()


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Of one turn, the mean after one to warm up."""
    work()
    finish(device)
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    finish(device)
    return (time.perf_counter() - start) / repeats


def finish(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def told(what: str, taken: float, rate: float, unit: str) -> None:
    """Print one line."""
    print(f"{what:<62} {taken:>10.4f} s {rate:>12.4g} {unit}", flush=True)


def score(device: torch.device, images: int, shifts: int, nodes: int, points: int, repeats: int) -> None:
    """The search everywhere of one batch: scores in single precision with their marginals, and the kernel that keeps marginals only."""
    rows, columns = torch.randn(images, shifts, 2 * points, device=device), torch.randn(nodes, 2 * points, device=device) / points
    power, powers = torch.rand(images, points, device=device), torch.rand(nodes, points, device=device) / points
    work = 2.0 * images * shifts * nodes * 2 * points / 1e12
    few = max(1, images * nodes * shifts // 2**31 + 1)
    part = rows[: images // few], power[: images // few]
    taken = few * seconds(lambda: marginals_(score_poses(*part, columns, powers), 0.5), device, repeats)
    told(f"scores of {images} x {shifts} x {nodes}, {points} points, single precision", taken, work / taken, "TFLOP/s")
    if not marginals_are_fast(device):
        return
    prior = torch.zeros(images, shifts, device=device)
    for name, split in (
        ("half precision", torch.arange(0, device=device)),
        ("half precision, all split", torch.arange(points, device=device)),
    ):
        left, right = half_rows(rows, split), half_columns(columns, split)
        depth = left.values.shape[-1] / (2 * points)
        taken = seconds(lambda left=left, right=right: fast_marginals(left, right, power @ powers.T, prior, 0.5, True), device, repeats)
        told(f"the same, {name}, marginals alone", taken, depth * work / taken, "TFLOP/s")


def slices(device: torch.device, side: int, radius: int, count: int, repeats: int) -> None:
    """Projection and back-projection."""
    chance, d = torch.Generator().manual_seed(1), 2 * side
    spectrum = torch.randn(d, d, d // 2 + 1, dtype=torch.complex64, device=device)
    disc, rotations = fourier_disc(side, radius, device), random_rotations(count, chance).to(device)
    table = spectrum_table(spectrum)
    taken = seconds(lambda: project_table(table, rotations, disc.points), device, repeats)
    number = count * len(disc.points) / 1e9
    told(f"projection, {count} slices of {len(disc.points)} points, box {side}", taken, number / taken, "Gpoint/s")
    sums, values = empty_sums(d, device), torch.randn(count, len(disc.points), dtype=torch.complex64, device=device)
    weights = torch.ones(count, len(disc.points), device=device)
    taken = seconds(lambda: insert_points_(*sums, values, weights, rotations, disc.points), device, repeats)
    told("back-projection of the same", taken, number / taken, "Gpoint/s")


def motion(device: torch.device, frames: int, height: int, width: int) -> torch.Tensor:
    """Alignment and sum of a movie of counts in memory; the dose-weighted sum, with a CTF, for what follows."""
    image = torch.randn(height, width, device=device)
    values = ctf_2d(frequencies2((height, width), device), 15000.0, 14500.0, 30.0, 300.0, 2.7)[0]
    scene = irfft2(rfft2(image) * values, (height, width))
    counts = [
        torch.poisson((0.8 + 0.1 * torch.roll(scene, (round(4 * math.exp(-number / 5)), 0), (0, 1))).clamp(min=0)).clamp(max=255).byte()
        for number in range(frames)
    ]
    doses = torch.arange(1.0, frames + 1, device=device)

    def correct() -> torch.Tensor:
        prepared = prepare_frames([frame.clone() for frame in counts], None, torch.Generator().manual_seed(1))
        found = estimate_motion(prepared, doses, Settings(pixel_size=1.0))
        weighted = sum_frames(prepared, found, 1.0, doses, 300.0).weighted
        assert weighted is not None
        return weighted

    taken = seconds(correct, device, 1)
    told(f"motion and sum of {frames} frames of {width} x {height}", taken, 3600 / taken, "movies/h")
    return correct()


def exposures(device: torch.device, micrograph: torch.Tensor, repeats: int) -> None:
    """CTF and picking of one micrograph."""
    taken = seconds(lambda: estimate_ctf(micrograph, 1.0, Optics(300.0, 2.7, 0.1), CtfSettings()), device, repeats)
    told("CTF with its surface", taken, 3600 / taken, "micrographs/h")
    row: dict[str, Any] = {"exposure_id": "e0", "batch": "0001", "micrograph": "e0.mrc", "micrograph_pixel_size": 1.0}
    row |= {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "phase_shift": 0.0, "optics_name": "o"}
    row |= {"defocus_u": 15000.0, "defocus_v": 14500.0, "defocus_angle": 30.0}
    image = micrograph.cpu().numpy()
    params = BlobParams.model_validate({"exposures": "here", "min_diameter": 120.0, "max_diameter": 160.0})
    taken = seconds(lambda: pick_blobs(image, row, params, device), device, repeats)
    told("blobs of 120 to 160 Å", taken, 3600 / taken, "micrographs/h")


def jobs(options: argparse.Namespace, device: torch.device, sizes: dict[str, tuple[int, ...]]) -> None:
    """2D classification and refinement, from files to files."""
    count, box, classes = sizes["classify"]
    quick = {"iterations": 2} if options.small else {}
    taken = job_seconds(options, device, "classify_2d", count, box, {"classes": classes} | quick)
    told(f"classify_2d, {count} particles of {box} px, {classes} classes", taken, count / taken, "particles/s")
    count, box, iterations = sizes["refine"]
    taken = job_seconds(options, device, "refine_homogeneous", count, box, {"iterations": iterations})
    told(f"refine_homogeneous, {count} of {box} px, {iterations} iterations", taken, count * iterations / taken, "particles/s")
    whole = WHOLE * ITERATIONS * taken / (count * iterations)
    print(f"estimate for {WHOLE} such particles and {ITERATIONS} iterations: {whole / 60:.1f} min")


def job_seconds(options: argparse.Namespace, device: torch.device, job_type: str, count: int, box: int, settings: dict[str, Any]) -> float:
    """Wall time of a job on particles that benchmarks/scale.py makes."""
    import importlib

    import scale

    from firn.runtime.entry import open_job

    made = argparse.Namespace(out=options.out.resolve(), distinct=min(count, 200), small=options.small)
    start = Path.cwd()
    (made.out / f"box_{box}").mkdir(parents=True, exist_ok=True)
    scale.prepare(made, job_type, count, box)
    module, inputs = importlib.import_module(f"firn.jobs.{job_type}"), {"particles": [f"stack_{count}"], "volume": ["start"]}
    settings = scale.SETTINGS[job_type] | settings
    inputs = {slot: folders for slot, folders in inputs.items() if slot in settings}
    home, lane = Path("results") / job_type, "cpu" if device.type == "cpu" else None
    began = time.perf_counter()
    with open_job(module.Params, settings, inputs, home, job_type, lane=lane) as job:
        module.run(job)
    os.chdir(start)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
