"""Sorting particles in fixed poses by classify_3d and by RELION's Class3D without alignment: accuracy, class sizes, CPU time.

    python benchmarks/states_vs_relion.py --seeds 1 2 --fractions 0.5 0.5 --particles 5000 --snr 0.02 --pose-error 2.5 --relion

A state is a core of 45 Å radius, each but the last with a domain of its own of about an eighth of the mass. Given poses are off by
--pose-error (a rotation about a random axis, Gaussian in its angle) and --shift-error. One state (--fractions 1) with --classes 2 is a
homogeneous set. Prints one line per seed and program: the part of the particles in the class of their state under the best assignment,
class sizes, how many classes were said to be supported, and CPU seconds of one thread. The line of the truth says what the true maps
alone allow, at the true poses and at the given ones, on --judged particles. Both programs start from the map of all particles low-passed
to 20 Å, and compare up to --resolution; RELION is given the mask that classify_3d made.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from firn.formats.mrc import write_stack
from firn.formats.tables import image_names, read_table, write_table
from firn.jobs import classify_3d
from firn.runtime.entry import open_job
from firn.simulate.ctf import Optics
from firn.simulate.euler import euler_to_matrix, matrix_to_euler, random_matrices
from firn.simulate.micrograph import imaged
from firn.simulate.phantom import Phantom, phantom_projection, random_phantom

BOX, PIXEL, CORE_RADIUS, LOBE_RADIUS, WIDTHS = 64, 3.0, 45.0, 17.0, (2.5, 4.0)
SHIFT_SD, DEFOCUS = 3.0, (8000.0, 20000.0)
RELION = (
    "relion_refine --i particles.star --ref consensus.mrc --ini_high 20 --iter 25 --tau2_fudge 4 --particle_diameter 150 --ctf --skip_align "
    "--flatten_solvent --zero_mask --norm --scale --pad 2 --pool 30 --dont_combine_weights_via_disc --j 1"
)


def main() -> None:
    """Simulate, sort and print, seed by seed."""
    options = parse()
    out = options.out.resolve()
    for seed in options.seeds:
        folder = out / f"seed_{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        if not Path("kind.npy").exists():
            simulate(options, seed)
        kind = np.load("kind.npy")
        if len(options.fractions) > 1:
            print(f"seed {seed}  truth   " + allowed(options, seed, kind), flush=True)
        report(seed, "firn", kind, *run_firn(options))
        if options.relion:
            report(seed, "relion", kind, *run_relion(options, seed))


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind, default in (
        ("particles", int, 5000), ("snr", float, 0.02), ("pose-error", float, 2.5), ("shift-error", float, 0.5), ("classes", int, 0),
        ("resolution", float, 10.0), ("judged", int, 1000),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.5, 0.5], help="of the states")
    parser.add_argument("--relion", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/states"))
    return parser.parse_args()


def states(count: int, seed: int) -> list[Phantom]:
    """A core with a domain at a place of its own for each state but the last, which has none unless it is the only one."""
    core = random_phantom(300, CORE_RADIUS, seed=100 * seed, widths=WIDTHS)
    chance = np.random.default_rng(100 * seed + 1)
    made = [core]
    for number in range(count - 1):
        lobe = random_phantom(45, LOBE_RADIUS, seed=100 * seed + 2 + number, widths=WIDTHS)
        place = chance.normal(size=3)
        centre = 0.95 * CORE_RADIUS * place / np.linalg.norm(place)
        weights = lobe.weights * core.weights.mean() / lobe.weights.mean()
        parts = ((core.positions, lobe.positions + centre), (core.widths, lobe.widths), (core.weights, weights))
        made.insert(0, Phantom(*(np.concatenate(part) for part in parts)))
    return made


def drawn(options: argparse.Namespace, seed: int) -> tuple[np.random.Generator, dict[str, np.ndarray]]:
    """A generator, and of each particle its state, true rotation, origin and defocus."""
    chance, count = np.random.default_rng(1000 + seed), options.particles
    kind = chance.choice(len(options.fractions), count, p=np.array(options.fractions) / sum(options.fractions))
    truth = {"kind": kind, "rotation": random_matrices(count, chance), "origin": chance.normal(0, SHIFT_SD, (count, 2))}
    return chance, truth | {"defocus": chance.uniform(*DEFOCUS, count)}


def clean(phantom: Phantom, rotation: np.ndarray, origin: np.ndarray, defocus: float) -> np.ndarray:
    """Noise-free image `(y, x)`, protein white."""
    projection = phantom_projection(phantom, rotation, BOX, PIXEL, (-origin[0], -origin[1]))
    return -np.asarray(imaged(projection, Optics(pixel_size=PIXEL), (defocus, defocus, 0.0)))


def simulate(options: argparse.Namespace, seed: int) -> None:
    """particles.mrcs, particles.star with poses that are off, the states of the particles, and the factor of the signal."""
    phantoms = states(len(options.fractions), seed)
    chance, truth = drawn(options, seed)
    parts = zip(truth["kind"], truth["rotation"], truth["origin"], truth["defocus"], strict=True)
    signal = np.stack([clean(phantoms[kind], *pose) for kind, *pose in parts])
    axis = (np.arange(BOX) - BOX // 2) * PIXEL
    inside = axis[:, None] ** 2 + axis**2 < (max(phantom.radius for phantom in phantoms) + 6) ** 2
    factor = np.sqrt(options.snr / np.mean(signal[:, inside] ** 2))
    images = factor * signal + chance.standard_normal(signal.shape)
    axes, count = chance.normal(size=(options.particles, 3)), options.particles
    turns = np.radians(chance.normal(0, options.pose_error, count))[:, None] * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    angles = matrix_to_euler(truth["rotation"] @ Rotation.from_rotvec(turns).as_matrix())
    origins = truth["origin"] + chance.normal(0, options.shift_error, (count, 2))
    table = pd.DataFrame({"image": image_names("particles.mrcs", count), "particle_id": [f"{number:06x}" for number in range(count)]})
    table = table.assign(
        rot=angles[:, 0], tilt=angles[:, 1], psi=angles[:, 2], origin_x=origins[:, 0], origin_y=origins[:, 1],
        defocus_u=truth["defocus"], defocus_v=truth["defocus"], defocus_angle=0.0, half=1 + np.arange(count) % 2, micrograph="m.mrc",
        voltage_kv=300.0, cs_mm=2.7, amplitude_contrast=0.1, image_pixel_size=PIXEL, box_px=BOX, dimensionality=2, optics_name="o",
    )  # fmt: skip
    write_stack("particles.mrcs", images.astype(np.float32), PIXEL)
    write_table("particles.star", table, "particles")
    np.save("factor.npy", factor)
    np.save("kind.npy", truth["kind"])


def allowed(options: argparse.Namespace, seed: int, kind: np.ndarray) -> str:
    """Accuracy of the likeliest state by the true maps, at the true and at the given poses."""
    phantoms, factor = states(len(options.fractions), seed), np.load("factor.npy")
    truth, table = drawn(options, seed)[1], read_table("particles.star", "particles")
    images = np.memmap("particles.mrcs", np.float32, "r", 1024, (options.particles, BOX, BOX))
    given = euler_to_matrix(*table[["rot", "tilt", "psi"]].to_numpy(float).T), table[["origin_x", "origin_y"]].to_numpy(float)
    right, prior = np.zeros(2), np.log(np.array(options.fractions))
    for number in range(options.judged):
        for which, (rotations, origins) in enumerate(((truth["rotation"], truth["origin"]), given)):
            models = [factor * clean(one, rotations[number], origins[number], truth["defocus"][number]) for one in phantoms]
            logs = prior - [0.5 * np.sum((images[number] - model) ** 2) for model in models]
            right[which] += np.argmax(logs) == kind[number]
    exact, off = right / options.judged
    return f"true maps allow {exact:.3f} at the true poses, {off:.3f} at the given ones"


def wanted(options: argparse.Namespace) -> int:
    """Number of classes to sort into."""
    return options.classes or max(2, len(options.fractions))


def run_firn(options: argparse.Namespace) -> tuple[np.ndarray, float, str]:
    """(class of each particle, CPU seconds, what was said about the number of classes)."""
    settings, before = {"particles": "p", "classes": wanted(options), "resolution": options.resolution}, cpu_seconds(resource.RUSAGE_SELF)
    shutil.rmtree("results/sorted", ignore_errors=True)
    with open_job(classify_3d.Params, settings, {"particles": ["."]}, Path("results/sorted"), "sorted", threads=1) as job:
        classify_3d.run(job)
    seconds = cpu_seconds(resource.RUSAGE_SELF) - before
    record = json.loads(Path("results/sorted/job.json").read_text(encoding="utf-8"))
    said = {name: value["value"] for name, value in record["metrics"].items() if name in ("supported_classes", "held_out_gain")}
    numbers = read_table("results/sorted/particles.star", "particles")["class_number"].to_numpy()
    return numbers, seconds, " ".join(f"{name} {value:.4g}" for name, value in said.items())


def run_relion(options: argparse.Namespace, seed: int) -> tuple[np.ndarray, float, str]:
    """(class of each particle, CPU seconds, nothing) of RELION, started from its own reconstruction of all particles."""
    Path("relion").mkdir(exist_ok=True)
    make = f"relion_reconstruct --i particles.star --o consensus.mrc --ctf --maxres {options.resolution}"
    subprocess.run(make.split(), check=True, capture_output=True)
    command = f"{RELION} --o relion/run --K {wanted(options)} --strict_highres_exp {options.resolution} --random_seed {seed}"
    before = cpu_seconds(resource.RUSAGE_CHILDREN)
    subprocess.run([*command.split(), "--solvent_mask", "results/sorted/class_1/mask.mrc"], check=True, capture_output=True)
    seconds = cpu_seconds(resource.RUSAGE_CHILDREN) - before
    found = read_table("relion/run_it025_data.star", "particles").set_index("image")
    return found.loc[read_table("particles.star", "particles")["image"], "class_number"].to_numpy(), seconds, ""


def cpu_seconds(who: int) -> float:
    """User and system time so far."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def report(seed: int, name: str, kind: np.ndarray, numbers: np.ndarray, seconds: float, said: str) -> None:
    """Print one line."""
    counts = np.zeros((kind.max() + 1, max(numbers.max(), kind.max() + 1)), int)
    np.add.at(counts, (kind, numbers - 1), 1)
    accuracy = counts[linear_sum_assignment(-counts)].sum() / counts.sum()
    sizes = " ".join(f"{100 * part:.1f}" for part in counts.sum(0) / counts.sum())
    print(f"seed {seed}  {name:7s} accuracy {accuracy:.3f}  classes {sizes} %  CPU {seconds:.0f} s  {said}", flush=True)


if __name__ == "__main__":
    main()
