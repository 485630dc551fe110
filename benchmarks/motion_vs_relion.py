"""Motion correction by firn and by RELION's own on the same simulated movies: residuals, what is left of the signal, and times.

Usage: python benchmarks/motion_vs_relion.py [--models phantom model.pdb ...] [--tilts 0 25] [--movies 2] [--seed 7] [--threads 1] ...
Prints one line per molecule and tilt, each with the next seed, then the ratios.
* Residuals are RMS distances in pixels over a raster of points and all frames, the mean over frames removed: of the drift alone, and of
  drift and local motion. Beside them stands what no estimator can better that knows nothing of the path (the Cramer-Rao bound for one
  shift per frame, from the power of the signal and the noise of the counts), and the same for one that knows how smooth it is.
* FRC is the Fourier ring correlation of the dose-weighted micrograph with the exposure had nothing moved, relative to that of the same
  frames moved by the true motion: mean over the rings where the latter exceeds 0.3, and the least.
* Time is CPU time (user and system) per movie, with decoding, alignment, writing and figures; without the start of the program, and
  with its share in a batch of ten. Seconds on the clock tell less where other work goes on.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import numpy as np
import pandas as pd
import torch

from firn.families.motion import read_counts
from firn.formats.gain import read_gain
from firn.formats.motion_star import polynomial_terms, read_motion
from firn.formats.mrc import read_mrc
from firn.formats.star import read_star
from firn.formats.tables import read_table
from firn.jobs import import_movies, patch_motion, simulate_movies
from firn.kernels.spline import cubic_basis
from firn.preprocess.frame_sum import sum_frames
from firn.preprocess.frames import Gain, prepare_frames
from firn.preprocess.motion import Field, Motion, acceleration_penalty, spline_times
from firn.runtime.entry import open_job
from firn.simulate.motion import Motion as TrueMotion
from firn.simulate.session import plan_shot, unmoved
from firn.simulate.specimen import load_specimen
from firn.simulate.truth import read_motion as read_truth

POINTS = 11
EDGE = 1 / 16
BATCH_SIZE = 10
NAME_WIDTH = 12
TELLING = 0.3
RINGS = 64
FINEST = 5.0
BATCH = Path("results/motion/batches/0001")
SIZES = (
    ("movies", int, 2), ("seed", int, 7), ("size-px", int, 1024), ("frames", int, 16), ("pixel-size", float, 1.0), ("dose-per-frame", float, 2.0),
    ("drift-px", float, 6.0), ("local-motion-px", float, 2.0), ("particles-per-movie", int, 80),
)  # fmt: skip


@dataclass
class Seconds:
    """CPU seconds of all movies, of the start of the program, and seconds on the clock of all movies."""

    cpu: float
    start: float
    wall: float


def main() -> None:
    """Simulate, correct twice, compare, for each molecule and tilt."""
    args = parse()
    torch.set_num_threads(args.threads)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in args.models:
            for tilt in args.tilts:
                folder = Path(args.folder or scratch).resolve() / f"{Path(model).name.split('.')[0]}_{tilt:g}"
                folder.mkdir(parents=True, exist_ok=True)
                with chdir(folder):
                    rows.append({"molecule": folder.name, **compare(args, model, tilt, args.seed + len(rows))})
                print_line(rows[-1], header=len(rows) == 1)
    conclude(pd.DataFrame(rows))


def parse() -> argparse.Namespace:
    """Options of the simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=None, help="keep (and use again) the simulated movies there")
    parser.add_argument("--models", nargs="+", default=["phantom"], help="phantom, or PDB or mmCIF files")
    parser.add_argument("--tilts", nargs="+", type=float, default=[0.0], help="degrees")
    parser.add_argument("--patches", type=int, default=5, help="patches per axis for RELION")
    parser.add_argument("--threads", type=int, default=1)
    for name, kind, default in SIZES:
        parser.add_argument(f"--{name}", type=kind, default=default)
    args = parser.parse_args()
    args.models = [model if model == "phantom" else str(Path(model).resolve()) for model in args.models]
    return args


def compare(args: argparse.Namespace, model: str, tilt: float, seed: int) -> dict[str, float]:
    """Numbers of one molecule and tilt: results of both programs on all movies."""
    if not Path("results/sim/job.json").exists():
        simulate(args, model, tilt, seed)
    seconds = {"firn": run_firn(args.threads)}
    if shutil.which("relion_run_motioncorr"):
        seconds["relion"] = run_relion(args)
    table = read_table(BATCH / "exposures.star", "exposures")
    with torch.inference_mode():
        found = pd.DataFrame([judge(row, "relion" in seconds) for row in table.to_dict("records")])
    lengths = [name for name in found if not name.startswith("FRC")]
    summary = {name: float(np.sqrt((found[name] ** 2).mean())) for name in lengths}
    summary |= {name: float(found[name].min() if "least" in name else found[name].mean()) for name in found if name not in lengths}
    for who, spent in seconds.items():
        each = spent.cpu / len(table)
        summary |= {f"{who} s": each, f"{who} s+start": each + spent.start / BATCH_SIZE, f"{who} wall": spent.wall / len(table)}
    return summary


def print_line(row: dict[str, str | float], header: bool) -> None:
    """Print one row of the table."""
    widths = {name: max(len(name), NAME_WIDTH if isinstance(value, str) else 0) for name, value in row.items()}
    texts = {name: value if isinstance(value, str) else f"{value:.3f}" for name, value in row.items()}
    for line in ([{name: name for name in row}] if header else []) + [texts]:
        print("  ".join(f"{line[name]:>{width}}" for name, width in widths.items()), flush=True)


def conclude(rows: pd.DataFrame) -> None:
    """Print what the means over molecules and tilts say."""
    mean = rows.drop(columns="molecule").mean()
    print(mean.round(3).to_string())
    if "relion s" in mean:
        ratios = {what: mean[f"firn {what}"] / mean[f"relion {what}"] for what in ("drift", "all")}
        speed = {what: mean[f"relion {what}"] / mean[f"firn {what}"] for what in ("s", "s+start")}
        print("residual, firn / RELION:", {what: round(float(value), 2) for what, value in ratios.items()})
        print("times faster than RELION in CPU seconds:", {what: round(float(value), 2) for what, value in speed.items()})


def simulate(args: argparse.Namespace, model: str, tilt: float, seed: int) -> None:
    """Movies with truth in results/sim, and each exposure had nothing moved in results/sim/truth/still."""
    settings = {name.replace("-", "_"): getattr(args, name.replace("-", "_")) for name, _, _ in SIZES}
    settings |= {"dirty": 0, "model": model, "tilt": tilt, "tilt_min": tilt, "seed": seed}
    with open_job(simulate_movies.Params, settings, {}, Path("results/sim"), "sim", threads=1) as job:
        simulate_movies.run(job)
        p = job.params
        specimen = load_specimen(p.model, max(p.resolution, 2 * p.pixel_size), job.derived_seed("model") % 2**32, p.phantom_radius)
        plan = simulate_movies.make_plan(p, specimen)
        (job.folder / "truth" / "still").mkdir()
        for name in (f"sim_{number:04d}" for number in range(1, p.movies + 1)):
            shot = plan_shot(plan, "good", [specimen], [1.0], job.numpy_generator(f"plan {name}"))
            np.save(job.folder / f"truth/still/{name}.npy", unmoved(plan, shot, [specimen], job.numpy_generator(f"frames {name}")))


def cpu_seconds(who: int) -> float:
    """User and system time of this process (resource.RUSAGE_SELF) or of those it has run (RUSAGE_CHILDREN)."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def start_seconds(command: list[str]) -> float:
    """CPU seconds of a program that starts and does nothing."""
    start = cpu_seconds(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=False, capture_output=True, env=os.environ | {"PYTHONPATH": sys.path[0]})
    return cpu_seconds(resource.RUSAGE_CHILDREN) - start


def run_firn(threads: int) -> Seconds:
    """Time of patch_motion over all movies, as one batch."""
    settings = {"source": "sim", "batch_size": 1000}
    with open_job(import_movies.Params, settings, {"source": ["results/sim"]}, Path("results/movies"), "movies", threads=1) as job:
        import_movies.run(job)
    inputs = {"exposures": ["results/movies/batches/0001"]}
    start, clock = cpu_seconds(resource.RUSAGE_SELF), time.monotonic()
    with open_job(patch_motion.Params, {"exposures": "movies"}, inputs, BATCH, "motion", "0001", threads=threads) as job:
        patch_motion.run(job)
    spent = cpu_seconds(resource.RUSAGE_SELF) - start, time.monotonic() - clock
    return Seconds(spent[0], start_seconds([sys.executable, "-c", "import firn.jobs.patch_motion, firn.runtime.entry"]), spent[1])


def run_relion(args: argparse.Namespace) -> Seconds:
    """Time of relion_run_motioncorr --use_own over all movies."""
    patches = ["--patch_x", str(args.patches), "--patch_y", str(args.patches), "--bfactor", "150"]
    doses = ["--dose_weighting", "--dose_per_frame", str(args.dose_per_frame), "--save_noDW"]
    files = ["--i", "results/sim/movies.star", "--o", "relion/", "--gainref", "results/sim/gain.mrc"]
    alone = start_seconds(["relion_run_motioncorr", "--version"])
    start, clock = cpu_seconds(resource.RUSAGE_CHILDREN), time.monotonic()
    command = ["relion_run_motioncorr", "--use_own", "--j", str(args.threads), *files, *patches, *doses]
    subprocess.run(command, check=True, capture_output=True)
    return Seconds(cpu_seconds(resource.RUSAGE_CHILDREN) - start - alone, alone, time.monotonic() - clock)


def judge(row: dict, relion: bool) -> dict[str, float]:
    """Residuals, bounds and ring correlations of one movie."""
    uv, movie = raster(), Path(row["movie"])
    motion = read_truth(Path(f"results/sim/truth/motion/{movie.stem}.star"))
    still, truth = np.load(f"results/sim/truth/still/{movie.stem}.npy"), motion.at(uv)
    images = {"firn": read_mrc(row["micrograph"])[0]}
    errors = {"no": residual(0 * truth, truth), "firn": residual(-firn_shifts(row["motion_star"], uv), truth)}
    if relion:
        images["relion"] = read_mrc(Path("relion") / movie.with_suffix(".mrc"))[0]
        errors["relion"] = residual(-relion_shifts(Path("relion") / movie.with_suffix(".star"), uv), truth)
    found = {f"{who} {what}": value for who, pair in errors.items() for what, value in zip(("drift", "all"), pair, strict=True)}
    found |= dict(zip(("bound", "smooth bound"), bounds(row, still, motion.trajectory), strict=True))
    perfect = ring_correlation(perfect_sum(row, motion), still)
    telling = perfect > TELLING
    for who, image in images.items():
        ratio = (ring_correlation(image, still) / perfect)[telling]
        found |= {f"FRC {who}": float(ratio.mean()), f"FRC {who} least": float(ratio.min())}
    return found


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
    points = torch.from_numpy((uv[:, ::-1] + 1) / 2)
    spline = None if field is None else Field(torch.tensor(field.coefficients), torch.tensor(field.times))
    return Motion(torch.from_numpy(shifts), spline, points).at_points(points).numpy()[..., ::-1] / pixel_size


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


def perfect_sum(row: dict, motion: TrueMotion) -> np.ndarray:
    """The dose-weighted sum `(y, x)` of the frames moved by the true motion, written as a field with a knot per frame."""
    frames, pixel_size = len(motion.trajectory), float(row["movie_pixel_size"])
    axis = np.linspace(0, 1, POINTS)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    times, places = torch.linspace(0, 1, frames, dtype=torch.float64), torch.from_numpy(axis)
    local = torch.from_numpy(-motion.local(2 * points - 1)[..., ::-1].reshape(frames, POINTS, POINTS, 2) * pixel_size)
    time_, space = torch.linalg.pinv(cubic_basis(times, frames - 1)), torch.linalg.pinv(cubic_basis(places, 1))
    coefficients = torch.einsum("tf,yh,xw,fhwd->tyxd", time_, space, space, local)
    shifts = torch.from_numpy(-motion.trajectory[:, ::-1] * pixel_size).float()
    true = Motion(shifts, Field(coefficients.float(), times.float()), torch.full((1, 2), 0.5))
    gain, cpu = Gain(torch.from_numpy(read_gain(row["gain"]))), torch.device("cpu")
    prepared = prepare_frames(read_counts(row, 0, None, cpu), gain, torch.Generator().manual_seed(0))
    doses = float(row["dose_per_frame"]) * torch.arange(1, frames + 1)
    weighted = sum_frames(prepared, true, pixel_size, doses, float(row["voltage_kv"])).weighted
    assert weighted is not None
    return weighted.numpy()


def ring_correlation(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Fourier ring correlation `(rings,)` up to Nyquist inside the edge, the image moved as a whole to where it agrees best."""
    found, wanted = inner_spectrum(image), inner_spectrum(truth)
    ring, slopes = rings_of(found.shape), 2 * np.pi * np.stack(frequencies(found.shape))
    cross, norm = found * wanted.conj(), np.sqrt(sum_rings(ring, np.abs(found) ** 2) * sum_rings(ring, np.abs(wanted) ** 2))
    shift = np.zeros(2)
    for _ in range(4):
        turned = cross * np.exp(1j * np.einsum("a,ayx->yx", shift, slopes))
        curve = sum_rings(ring, turned.real) / norm
        weights = np.append(np.where(curve > TELLING, 1 / norm, 0), 0)[ring]
        pull = -np.einsum("ayx,yx->a", slopes, weights * turned.imag)
        shift += np.linalg.solve(np.einsum("ayx,byx,yx->ab", slopes, slopes, weights * np.abs(turned.real)), pull)
    return curve


def inner_spectrum(image: np.ndarray) -> np.ndarray:
    """Spectrum of the image inside its edge, tapered, of mean 0, in units in which white noise of variance 1 has power 1."""
    border = round(EDGE * min(image.shape))
    inner = image[border : image.shape[0] - border, border : image.shape[1] - border]
    window = np.hanning(inner.shape[0])[:, None] * np.hanning(inner.shape[1])
    return np.fft.rfft2((inner - inner.mean()) * window) / np.sqrt((window**2).sum())


def frequencies(spectrum: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies y and x in cycles per pixel of the spectrum of an image of an even width."""
    y, x = np.fft.fftfreq(spectrum[0]), np.arange(spectrum[1]) / (2 * spectrum[1] - 2)
    return np.repeat(y[:, None], spectrum[1], axis=1), np.repeat(x[None], spectrum[0], axis=0)


def rings_of(spectrum: tuple[int, int]) -> np.ndarray:
    """Number of the ring of each frequency, RINGS beyond Nyquist."""
    return np.minimum((np.hypot(*frequencies(spectrum)) * 2 * RINGS).astype(int), RINGS)


def sum_rings(ring: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums `(RINGS,)` of the values over each ring."""
    return np.bincount(ring.ravel(), values.ravel(), minlength=RINGS + 1)[:RINGS]


def bounds(row: dict, still: np.ndarray, trajectory: np.ndarray) -> tuple[float, float]:
    """RMS in px below which no estimate of the drift can lie: of one shift per frame, and of a path as smooth as the true one.

    n frames of one Gaussian signal, each with the signal-to-noise r at a frequency k in cycles per pixel, have the information
    J = 2 h (n - 1 1^T) about their shifts along an axis, h = sum over the half plane of 2 pi^2 k^2 r^2 / (1 + n r).
    The smooth path adds the precision of its accelerations, that of the true path, to J.
    """
    frames, spectrum = len(trajectory), inner_spectrum(still / len(trajectory))
    ring, radius = rings_of(spectrum.shape), np.hypot(*frequencies(spectrum.shape))
    power = sum_rings(ring, np.abs(spectrum) ** 2) / sum_rings(ring, np.ones(spectrum.shape))
    ratio = np.append(power / (still.mean() / frames), 0)[ring]
    ratio[(radius > float(row["movie_pixel_size"]) / FINEST) | (radius < 2 / min(still.shape))] = 0
    area = still.size / (2 * ratio.size - 2 * len(ratio))
    half_plane = area * 2 * np.pi**2 * (radius**2 * ratio**2 / (1 + frames * ratio)).sum()
    information = 2 * half_plane * (frames * np.eye(frames) - 1)
    penalty = acceleration_penalty(spline_times(float(row["dose_per_frame"]) * torch.arange(1, frames + 1))).numpy()
    precision = 2 * (frames - 2) / max(float(np.einsum("fd,fg,gd->", trajectory, penalty, trajectory)), 1e-12)
    centre = np.eye(frames) - 1 / frames
    covariances = [centre @ np.linalg.pinv(matrix) @ centre for matrix in (information, information + precision * penalty)]
    return float(np.sqrt(2 * np.trace(covariances[0]) / frames)), float(np.sqrt(2 * np.trace(covariances[1]) / frames))


if __name__ == "__main__":
    main()
