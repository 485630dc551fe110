"""Motion correction by firn and by RELION's own on the same simulated movies: residuals against the truth, and times.

Usage: python benchmarks/motion_vs_relion.py [--movies 2] [--seed 7] [--model phantom] [--pixel-size 1.0] ...
Prints one line per movie and the ratios. Residuals are RMS distances in pixels over a raster of points and all frames, the mean
over frames removed: of the drift alone, and of drift and local motion. Time is CPU time (user and system) of one thread, decoding,
writing and one figure included; the start of the interpreter is not.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import numpy as np
import torch

from firn.formats.motion_star import polynomial_terms, read_motion
from firn.formats.star import read_star
from firn.formats.tables import read_table
from firn.jobs import import_movies, patch_motion, simulate_movies
from firn.kernels.spline import cubic_basis
from firn.runtime.entry import open_job
from firn.simulate.truth import read_motion as read_truth

POINTS = 11


def main() -> None:
    """Simulate, correct twice, compare."""
    args = parse()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(args.folder or folder)
        if not Path("results/sim/job.json").exists():
            simulate(args)
        times = {"firn": run_firn(), "relion": run_relion(args)}
        report(args, times)


def parse() -> argparse.Namespace:
    """Options of the simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=None, help="keep (and use again) the simulated movies there")
    parser.add_argument("--model", default="phantom")
    parser.add_argument("--patches", type=int, default=5, help="patches per axis for RELION")
    for name, kind, default in (
        ("movies", int, 2), ("seed", int, 7), ("size-px", int, 1024), ("frames", int, 16), ("pixel-size", float, 1.0), ("dose-per-frame", float, 2.0),
        ("drift-px", float, 6.0), ("local-motion-px", float, 2.0),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    args = parser.parse_args()
    args.model = args.model if args.model == "phantom" else str(Path(args.model).resolve())
    return args


def simulate(args: argparse.Namespace) -> None:
    """Movies with truth in results/sim."""
    names = ("movies", "size_px", "frames", "pixel_size", "dose_per_frame", "drift_px", "local_motion_px", "model", "seed")
    settings = {name: getattr(args, name) for name in names} | {"dirty": 0}
    with open_job(simulate_movies.Params, settings, {}, Path("results/sim"), "sim", threads=1) as job:
        simulate_movies.run(job)


def cpu_seconds(who: int) -> float:
    """User and system time of this process (resource.RUSAGE_SELF) or of those it has run (RUSAGE_CHILDREN)."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def run_firn() -> float:
    """CPU seconds of patch_motion over all movies."""
    with open_job(
        import_movies.Params,
        {"source": "sim", "batch_size": 1000},
        {"source": ["results/sim"]},
        Path("results/movies"),
        "movies",
        threads=1,
    ) as job:
        import_movies.run(job)
    start = cpu_seconds(resource.RUSAGE_SELF)
    inputs = {"exposures": ["results/movies/batches/0001"]}
    with open_job(
        patch_motion.Params, {"exposures": "movies"}, inputs, Path("results/motion/batches/0001"), "motion", "0001", threads=1
    ) as job:
        patch_motion.run(job)
    return cpu_seconds(resource.RUSAGE_SELF) - start


def run_relion(args: argparse.Namespace) -> float:
    """CPU seconds of relion_run_motioncorr --use_own over all movies; NaN without RELION."""
    if shutil.which("relion_run_motioncorr") is None:
        return float("nan")
    start = cpu_seconds(resource.RUSAGE_CHILDREN)
    patches = ["--patch_x", str(args.patches), "--patch_y", str(args.patches), "--bfactor", "150"]
    doses = ["--dose_weighting", "--dose_per_frame", str(args.dose_per_frame), "--save_noDW"]
    files = ["--i", "results/sim/movies.star", "--o", "relion/", "--gainref", "results/sim/gain.mrc"]
    command = ["relion_run_motioncorr", "--use_own", "--j", "1", *files, *patches, *doses]
    subprocess.run(command, check=True, capture_output=True)
    return cpu_seconds(resource.RUSAGE_CHILDREN) - start


def report(args: argparse.Namespace, times: dict[str, float]) -> None:
    """Print residuals of each movie and program, and the ratios."""
    uv = raster()
    table = read_table("results/motion/batches/0001/exposures.star", "exposures")
    residuals: dict[str, list[tuple[float, float]]] = {"none": [], "firn": [], "relion": []}
    for row in table.itertuples():
        stem = Path(row.movie).stem
        truth = read_truth(Path(f"results/sim/truth/motion/{stem}.star")).at(uv)
        residuals["none"].append(residual(0 * truth, truth))
        residuals["firn"].append(residual(-firn_shifts(row.motion_star, uv), truth))
        if np.isfinite(times["relion"]):
            residuals["relion"].append(residual(-relion_shifts(Path("relion") / Path(row.movie).with_suffix(".star"), uv), truth))
        print(stem, "  ".join(f"{who} {pairs[-1][0]:.3f} {pairs[-1][1]:.3f}" for who, pairs in residuals.items() if pairs))
    means = {who: np.sqrt(np.mean(np.square(pairs), axis=0)) for who, pairs in residuals.items() if pairs}
    print("RMS residual in px (drift, drift + local):", {who: tuple(np.round(mean, 3).tolist()) for who, mean in means.items()})
    print("CPU seconds per movie:", {who: round(value / len(table), 2) for who, value in times.items()})
    if "relion" in means:
        ratios = means["firn"] / means["relion"]
        print(f"firn / RELION: drift {ratios[0]:.2f}, drift + local {ratios[1]:.2f}, time {times['firn'] / times['relion']:.2f}")


def raster() -> np.ndarray:
    """Points `(n, 2)` uv over most of the image, -1 to 1."""
    axis = np.linspace(-0.9, 0.9, POINTS)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def residual(estimate: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """RMS in px of the drift's error and of the whole error, of displacements `(f, n, 2)`, the mean over frames removed."""
    error = estimate - truth
    error = error - error.mean(axis=0)
    drift = error.mean(axis=1)
    return float(np.sqrt((drift**2).sum(axis=-1).mean())), float(np.sqrt((error**2).sum(axis=-1).mean()))


def firn_shifts(path: str, uv: np.ndarray) -> np.ndarray:
    """Shifts `(f, n, 2)` xy in px of firn's motion STAR."""
    shifts, field, pixel_size = read_motion(path)
    total = np.repeat(shifts[:, None], len(uv), axis=1)
    if field is not None:
        ct, cy, cx, _ = field.coefficients.shape
        points = torch.from_numpy((uv + 1) / 2)
        bases = (
            cubic_basis(torch.tensor(field.times), ct - 3),
            cubic_basis(points[:, 1], cy - 3),
            cubic_basis(points[:, 0], cx - 3),
        )
        total = total + np.einsum("ft,ny,nx,tyxd->fnd", *(basis.numpy() for basis in bases), field.coefficients, optimize=True)
    return total[..., ::-1] / pixel_size


def relion_shifts(path: Path, uv: np.ndarray) -> np.ndarray:
    """Shifts `(f, n, 2)` xy in px of RELION's motion STAR, its polynomial included when it has one."""
    blocks = read_star(path)
    rigid = blocks["global_shift"][["rlnMicrographShiftX", "rlnMicrographShiftY"]].to_numpy(dtype=float)
    total = np.repeat(rigid[:, None], len(uv), axis=1)
    if "local_motion_model" in blocks:
        model = blocks["local_motion_model"]["rlnMotionModelCoeff"].to_numpy(dtype=float).reshape(2, 18)
        frame = np.arange(len(rigid), dtype=float)[:, None]
        terms = polynomial_terms(frame, uv[None, :, 1] / 2, uv[None, :, 0] / 2)
        total = total + terms @ model.T
    return total


if __name__ == "__main__":
    main()
