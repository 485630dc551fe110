"""CTF estimation of simulated micrographs against their truth: defocus, astigmatism, specimen tilt, fit resolution, time.

Usage: python benchmarks/ctf.py [--folder scratch] [--models a.pdb b.cif] [--tilts 0 25] [--micrographs 2] [--size-px 1536] [--pixel-size 1.2] ...
The micrographs are made without motion; with a folder they are kept there and used again. Prints one line per micrograph and one per condition:
mean and standard deviation of the relative defocus error, worst error of the astigmatism angle where the astigmatism exceeds
200 Å, and worst errors of tilt and tilt axis. Time is CPU time of one thread.
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import numpy as np
import pandas as pd
import torch

from firn.jobs.simulate_movies import Params, make_plan
from firn.kernels.ctf_fit import Optics
from firn.kernels.defocus_surface import specimen_tilt
from firn.preprocess.ctf import estimate_ctf
from firn.preprocess.ctf_spectrum import CtfSettings
from firn.simulate.motion import random_motion
from firn.simulate.session import plan_shot, shoot
from firn.simulate.specimen import load_specimen


def main() -> None:
    """Make or read the micrographs, fit them, compare."""
    args = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        args.folder = args.folder or folder
        report(args)


def report(args: argparse.Namespace) -> None:
    """One line per micrograph, then one per condition."""
    rows = []
    for model in args.models:
        for tilt in args.tilts:
            for path in micrographs(args, model, tilt):
                rows.append(judge(path, args) | {"model": Path(model).name.split(".")[0], "condition": tilt})
                print(line(rows[-1]), flush=True)
    table = pd.DataFrame(rows)
    for name, group in [*table.groupby(["model", "condition"]), *table.groupby("condition"), ("all", table)]:
        print(summary(name, group))


def parse() -> argparse.Namespace:
    """Options of the simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=None, help="keep (and use again) the simulated micrographs there")
    parser.add_argument("--models", nargs="+", default=["phantom"])
    parser.add_argument("--tilts", nargs="+", type=float, default=[0.0, 25.0])
    for name, kind, default in (
        ("micrographs", int, 2), ("seed", int, 7), ("size-px", int, 1536), ("pixel-size", float, 1.2), ("dose", float, 40.0), ("b-factor", float, 60.0),
        ("defocus-min", float, 5000.0), ("defocus-max", float, 25000.0), ("astigmatism", float, 400.0), ("particles", int, 80),
        ("cs", float, 2.7), ("voltage", float, 300.0), ("ice-thickness", float, 300.0),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    return parser.parse_args()


def micrographs(args: argparse.Namespace, model: str, tilt: float) -> list[Path]:
    """Files of one condition, each holding the image and its truth."""
    tag = f"{Path(model).name.split('.')[0]}_{tilt:g}_{args.size_px}_{args.pixel_size:g}_{args.b_factor:g}_{args.dose:g}_{args.defocus_min:g}_{args.seed}"
    paths = [Path(args.folder) / f"{tag}_{number}.npz" for number in range(args.micrographs)]
    params = Params(
        model=model, movies=1, dirty=0, frames=1, size_px=args.size_px, pixel_size=args.pixel_size, dose_per_frame=args.dose, b_factor=args.b_factor,
        defocus_min=args.defocus_min, defocus_max=args.defocus_max, astigmatism=args.astigmatism, particles_per_movie=args.particles, drift_px=0, local_motion_px=0,
        tilt=tilt, cs_mm=args.cs, voltage_kv=args.voltage, ice_thickness=args.ice_thickness,
    )  # fmt: skip
    if all(path.exists() for path in paths):
        return paths
    specimen = load_specimen(model, max(params.resolution, 2 * params.pixel_size), args.seed)
    plan = make_plan(params, specimen)
    for number, path in enumerate(paths):
        generator = np.random.default_rng((args.seed, number, round(100 * tilt), sum(map(ord, Path(model).name))))
        shots = (plan_shot(plan, "good", [specimen], [1.0], generator) for _ in range(1000))
        shot = next(shot for shot in shots if shot.tilt >= 0.9 * tilt)
        still = random_motion(1, args.dose, 0.0, 0.0, generator)
        expected = next(iter(shoot(plan, replace(shot, motion=still), [specimen], generator)))
        u, v, angle = shot.scene.mean_defocus
        np.savez(path, image=generator.poisson(expected).astype(np.float32), truth=(u, v, angle % 180, shot.tilt, shot.tilt_axis))
    return paths


def judge(path: Path, args: argparse.Namespace) -> dict[str, float]:
    """Truth, estimate and errors of one micrograph."""
    stored = np.load(path)
    u, v, angle, tilt, axis = (float(value) for value in stored["truth"])
    start = time.process_time()
    with torch.inference_mode():
        found = estimate_ctf(torch.from_numpy(stored["image"]), args.pixel_size, Optics(args.voltage, args.cs, 0.1), CtfSettings())
    seconds = time.process_time() - start
    mean, got = (u + v) / 2, (found.defocus_u + found.defocus_v) / 2
    got_tilt, got_axis = specimen_tilt(found.surface, stored["image"].shape, args.pixel_size)
    return {
        "defocus": mean, "astigmatism": u - v, "tilt": tilt, "defocus_error": 100 * (got - mean) / mean,
        "astigmatism_error": found.defocus_u - found.defocus_v - (u - v), "angle_error": turned(found.defocus_angle - angle, 180),
        "tilt_error": got_tilt - tilt, "axis_error": turned(got_axis - axis, 360), "bend": max(abs(value) for value in found.surface[2:]),
        "fit_resolution": found.fit_resolution, "score": found.score, "seconds": seconds,
    }  # fmt: skip


def turned(difference: float, period: float) -> float:
    """Smallest difference of two angles in degrees."""
    return (difference + period / 2) % period - period / 2


def line(row: dict[str, float]) -> str:
    """One micrograph."""
    return (
        f"{row['model']:>8} tilt {row['tilt']:4.1f} {row['tilt_error']:+5.1f} axis {row['axis_error']:+6.1f} | defocus {row['defocus']:6.0f} {row['defocus_error']:+6.2f} % "
        f"| astigmatism {row['astigmatism']:4.0f} {row['astigmatism_error']:+4.0f} angle {row['angle_error']:+5.1f} | bend {row['bend']:4.0f} "
        f"| to {row['fit_resolution']:5.2f} Å score {row['score']:.3f} | {row['seconds']:.2f} s"
    )


def summary(name: object, group: pd.DataFrame) -> str:
    """One condition."""
    error, steep, oval = group["defocus_error"], group[group["tilt"] > 5], group[group["astigmatism"] > 200]
    return (
        f"{name}: defocus {error.mean():+.2f} +- {error.std():.2f} % (worst {error.abs().max():.2f}); "
        f"angle within {oval['angle_error'].abs().max():.1f}; tilt within {group['tilt_error'].abs().max():.1f}, mean {group['tilt_error'].mean():+.1f}; "
        f"axis within {steep['axis_error'].abs().max():.1f}; median {group['fit_resolution'].median():.2f} Å, {group['seconds'].median():.2f} s"
    )


if __name__ == "__main__":
    main()
