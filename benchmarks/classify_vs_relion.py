"""2D classification by firn and by RELION on the same simulated particles with false picks: purity, signal kept, times.

Usage: python benchmarks/classify_vs_relion.py [--model phantom] [--particles 400] [--classes 10] [--snr 0.1] [--junk 0.2] [--seed 7]
Prints one line per program and the ratios. Both make the same number of classes, the one that firn gathers the unexplained in included.
Purity is the fraction of particles in classes whose majority is of their kind (molecule or false pick); all in one class have 1 - junk.
Told apart: chance that a molecule's class holds a greater share of other molecules than a false pick's (the area under the curve of all
selections of whole classes), each share without the particle itself, so that small classes gain nothing: 0.5 when classes say nothing.
False left: share of the false picks that stay when classes are kept, best first, until 95 % of the molecules are. Signal kept is the mean
product of the noise-free images of two different particles of a class, aligned as found, over their mean square: 1 when all members are
one view, well aligned; detail kept is the same of what is finer than DETAIL. Time is CPU time of one thread, reading and writing included.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import numpy as np
import pandas as pd
from kept_results import once
from scipy.ndimage import map_coordinates

from firn.formats.mrc import read_mrc
from firn.formats.tables import read_table
from firn.jobs import classify_2d, simulate_particles
from firn.runtime.entry import open_job
from firn.simulate.euler import euler_to_matrix

DETAIL = 30.0
"""Å."""


Found = tuple[Path, float]
Program = Callable[[argparse.Namespace], Found]


def main() -> None:
    """Simulate, classify twice, compare."""
    args = parse()
    if shutil.which("relion_refine") is None:
        sys.exit("relion_refine is not installed")
    with tempfile.TemporaryDirectory() as folder:
        Path(args.folder or folder).mkdir(parents=True, exist_ok=True)
        os.chdir(args.folder or folder)
        if not Path("results/stack/job.json").exists():
            simulate(args)
        report({name: timed(name, run, args) for name, run in PROGRAMS.items() if name in args.programs})


def parse() -> argparse.Namespace:
    """Options; a file of a model is made absolute, for work is done elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="phantom", help="phantom, or a PDB or mmCIF file")
    parser.add_argument("--folder", default=None, help="keep (and use again) the simulated particles there")
    parser.add_argument(
        "--programs", nargs="+", choices=["firn", "relion"], default=["firn", "relion"], help="to run, or run in that folder"
    )
    for name, kind, default in (
        ("particles", int, 400), ("classes", int, 10), ("seed", int, 7), ("iterations", int, 25), ("snr", float, 0.1), ("junk", float, 0.2),
        ("box-px", int, 64), ("pixel-size", float, 3.0), ("diameter", float, 150.0), ("max-resolution", float, 9.0),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    args = parser.parse_args()
    args.model = str(Path(args.model).resolve()) if Path(args.model).exists() else args.model
    return args


def simulate(args: argparse.Namespace) -> None:
    """Particles of one molecule and false picks in results/stack."""
    settings = {"particles": args.particles, "junk": args.junk, "snr": args.snr, "box_px": args.box_px, "pixel_size": args.pixel_size}
    with open_job(
        simulate_particles.Params, settings | {"seed": args.seed, "models": [args.model]}, {}, Path("results/stack"), "stack", threads=1
    ) as job:
        simulate_particles.run(job)


def timed(name: str, run: Program, args: argparse.Namespace) -> Found:
    """What a program found, or had found when it was run in the same folder before."""
    particles, seconds = once(name, lambda: run(args))
    return Path(str(particles)), float(seconds)


def run_firn(args: argparse.Namespace) -> Found:
    """(particles, CPU seconds) of classify_2d."""
    settings = {
        "particles": "stack",
        "classes": args.classes - 1,
        "particle_diameter": args.diameter,
        "max_resolution": args.max_resolution,
    }
    start = cpu_seconds(resource.RUSAGE_SELF)
    with open_job(classify_2d.Params, settings, {"particles": ["results/stack"]}, Path("results/class2d"), "class2d", threads=1) as job:
        classify_2d.run(job)
    return Path("results/class2d/particles.star"), cpu_seconds(resource.RUSAGE_SELF) - start


def run_relion(args: argparse.Namespace) -> Found:
    """(particles, CPU seconds) of relion_refine with the settings of its Class2D job."""
    Path("relion").mkdir(exist_ok=True)
    command = (
        f"relion_refine --i results/stack/particles.star --o relion/run --K {args.classes} --iter {args.iterations} --ctf --tau2_fudge 2 "
        f"--particle_diameter {args.diameter:g} --zero_mask --flatten_solvent --norm --scale --psi_step 12 --offset_range 5 --offset_step 2 "
        f"--oversampling 1 --strict_highres_exp {args.max_resolution:g} --dont_combine_weights_via_disc --pad 2 --j 1 --random_seed {args.seed}"
    )
    start = cpu_seconds(resource.RUSAGE_CHILDREN)
    subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)
    seconds = cpu_seconds(resource.RUSAGE_CHILDREN) - start
    return Path(f"relion/run_it{args.iterations:03d}_data.star"), seconds


def cpu_seconds(who: int) -> float:
    """User and system time so far."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def scores(found: pd.DataFrame) -> dict[str, float]:
    """How well classes tell molecules from false picks, what averaging keeps, and the share of particles in the fullest class."""
    truth = read_table("results/stack/truth/particles.star", "particles").set_index("image").loc[found["image"]]
    molecule, number = (truth["class_number"] == 1).to_numpy(), found["class_number"].to_numpy()
    kept = {"kept": [0.0, 1e-12], "detail": [0.0, 1e-12]}
    for rows in found.groupby("class_number").indices.values():
        mine = rows[molecule[rows]]
        if len(mine) > 1:
            images, pixel_size = aligned_projections(truth.iloc[mine], found.iloc[mine])
            for name, shown in (("kept", images), ("detail", finer(images, pixel_size))):
                flat = (shown - shown.mean(axis=(1, 2), keepdims=True)).reshape(len(shown), -1)
                kept[name][0] += (np.sum(flat.sum(0) ** 2) - np.sum(flat**2)) / (len(mine) - 1)
                kept[name][1] += np.sum(flat**2)
    shares = {name: part / whole for name, (part, whole) in kept.items()}
    largest = found["class_number"].value_counts().iloc[0]
    return told_apart(number, molecule) | shares | {"largest": largest / len(found)}


def told_apart(number: np.ndarray, molecule: np.ndarray) -> dict[str, float]:
    """Purity, chance to tell a molecule from a false pick by their classes, and false picks left beside 95 % of the molecules."""
    table = pd.crosstab(number, molecule).reindex(columns=[False, True], fill_value=0).to_numpy()
    rows = np.unique(number, return_inverse=True)[1]
    mean = molecule.mean()
    share = (table[rows, 1] - molecule + mean) / table[rows].sum(1)
    good, bad = share[molecule][:, None], share[~molecule][None]
    best = table[np.argsort(-(table[:, 1] / table.sum(1)))]
    kept, stay = (np.append(0.0, np.cumsum(best[:, column])) for column in (1, 0))
    return {
        "purity": table.max(1).sum() / len(number),
        "told": float((good > bad).mean() + 0.5 * (good == bad).mean()),
        "left": float(np.interp(0.95 * kept[-1], kept, stay)) / max(stay[-1], 1),
    }


def finer(images: np.ndarray, pixel_size: float) -> np.ndarray:
    """What of images `(k, y, x)` is finer than DETAIL."""
    frequency = np.fft.fftfreq(images.shape[-1], pixel_size)
    return np.fft.ifft2(np.fft.fft2(images) * (np.hypot(frequency[:, None], frequency) > 1 / DETAIL)).real


def aligned_projections(truth: pd.DataFrame, found: pd.DataFrame) -> tuple[np.ndarray, float]:
    """(noise-free images `(k, y, x)` of the true molecule, turned and moved as the found psi and origin say; their pixel size in Å)."""
    volume, pixel_size = read_mrc("results/stack/truth/model.mrc")
    n = len(volume)
    grid = (np.stack(np.meshgrid(*[np.arange(0, n, 2) - n // 2] * 3, indexing="ij"))[::-1]).reshape(3, -1)
    images = []
    for (_, true), (_, mine) in zip(truth.iterrows(), found.iterrows(), strict=True):
        origin = np.array([true["origin_x"] - mine["origin_x"], true["origin_y"] - mine["origin_y"], 0.0]) / pixel_size
        in_image = euler_to_matrix(0.0, 0.0, mine["psi"]).reshape(3, 3).T @ grid + origin[:, None]
        in_volume = euler_to_matrix(true["rot"], true["tilt"], true["psi"]).reshape(3, 3) @ in_image
        values = map_coordinates(volume, in_volume[::-1] + n // 2, order=1)
        images.append(values.reshape([n // 2] * 3 if n % 2 == 0 else [n // 2 + 1] * 3).sum(0))
    return np.array(images), 2 * pixel_size


def report(results: dict[str, Found]) -> None:
    """One line per program, then the ratios."""
    rows = {name: scores(read_table(found, "particles")) | {"seconds": seconds} for name, (found, seconds) in results.items()}
    for name, row in rows.items():
        print(
            f"{name:7s} purity {row['purity']:.3f}  told apart {row['told']:.3f}  false left {row['left']:.2f}  signal kept {row['kept']:.3f}  "
            f"detail kept {row['detail']:.3f}  fullest class {row['largest']:.2f}  CPU {row['seconds']:.0f} s"
        )
    if len(rows) < len(PROGRAMS):
        return
    ours, theirs = rows["firn"], rows["relion"]
    print(
        f"ratios  impurity {(1 - ours['purity']) / max(1 - theirs['purity'], 1e-3):.2f}  signal kept {ours['kept'] / theirs['kept']:.2f}  CPU {ours['seconds'] / theirs['seconds']:.2f}"
    )


PROGRAMS: dict[str, Program] = {"firn": run_firn, "relion": run_relion}

if __name__ == "__main__":
    main()
