"""Gold-standard refinement by firn and by RELION's auto-refine from the same simulated particles and start: map, poses, times.

Usage: python benchmarks/refine_vs_relion.py [--particles 1000] [--box-px 64] [--pixel-size 3] [--snr 0.1] [--symmetry C1] [--off 3]
With --off both refine locally, from poses so many degrees and 1 Å off the true ones and the map at 12 Å, within the ball.
Prints one line per program and the ratios. Resolution is where the correlation of the final map with the truth, both within the
particle's ball, falls to 0.5. A pose is right within 5 degrees; the median is of all poses' errors, equivalent poses counted as one. Time is
CPU time, reading and writing included; that of RELION's first rank is left out: it hands out work, and waits for it in a loop.
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
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import numpy as np
import torch
from kept_results import once
from scipy.spatial.transform import Rotation

from firn.formats.mrc import read_mrc, write_volume
from firn.formats.tables import read_table, write_table
from firn.jobs import refine_homogeneous, refine_local, simulate_particles
from firn.kernels.fsc import fsc, resolution_at
from firn.kernels.mask import soft_sphere
from firn.kernels.rotation import euler_matrices, rotation_distance
from firn.kernels.symmetry import symmetry_matrices
from firn.runtime.entry import open_job

ANGLES = ["rot", "tilt", "psi"]
TIMED = 'relion_refine_mpi "$@" && times > relion/cpu_$OMPI_COMM_WORLD_RANK'
MPI = ["mpirun", "-n", "3", "--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1", "bash", "-c", TIMED, "rank"]
RELION = (
    "--o relion/run --auto_refine "
    "--split_random_halves --i relion.star --ref results/start/map.mrc --ctf --flatten_solvent --zero_mask "
    "--oversampling 1 --auto_local_healpix_order 4 --low_resol_join_halves 40 "
    "--norm --scale --pad 2 --dont_combine_weights_via_disc --pool 10 --j 1"
)
EVERYWHERE = "--firstiter_cc --ini_high 30 --healpix_order 2 --offset_range 5 --offset_step 2"
NEARBY = "--firstiter_cc --ini_high 12 --healpix_order 4 --offset_range 3 --offset_step 1 --solvent_mask results/ball/mask.mrc"
"""From the fourth order on RELION searches nearby: twice its angular step is the standard deviation of its prior."""


Found = tuple[Path, Path, float]
Program = Callable[[argparse.Namespace], Found]


def main() -> None:
    """Simulate, refine twice, compare."""
    args = parse()
    args.model = str(Path(args.model).resolve()) if Path(args.model).exists() else args.model
    if shutil.which("relion_refine_mpi") is None:
        sys.exit("relion_refine_mpi is not installed")
    with tempfile.TemporaryDirectory() as folder:
        Path(args.folder or folder).mkdir(parents=True, exist_ok=True)
        os.chdir(args.folder or folder)
        if not Path("results/stack/job.json").exists():
            simulate(args)
            give_poses(args)
        report(args, {name: timed(name, run, args) for name, run in PROGRAMS.items() if name in args.programs})


def parse() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=None, help="keep (and use again) the simulated particles there")
    parser.add_argument(
        "--programs", nargs="+", choices=["firn", "relion"], default=["firn", "relion"], help="to run, or run in that folder"
    )
    for name, kind, default in (
        ("particles", int, 1000), ("seed", int, 7), ("snr", float, 0.1), ("box-px", int, 64), ("pixel-size", float, 3.0),
        ("diameter", float, 150.0), ("off", float, 0.0), ("symmetry", str, "C1"), ("model", str, "phantom"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    return parser.parse_args()


def simulate(args: argparse.Namespace) -> None:
    """Particles of one molecule in results/stack, and the molecule as the start, which both programs low-pass."""
    settings = {
        "models": [args.model],
        "particles": args.particles,
        "snr": args.snr,
        "box_px": args.box_px,
        "pixel_size": args.pixel_size,
    }
    with open_job(simulate_particles.Params, settings | {"seed": args.seed}, {}, Path("results/stack"), "stack", threads=1) as job:
        simulate_particles.run(job)
    Path("results/start").mkdir(exist_ok=True)
    shutil.copyfile("results/stack/truth/model.mrc", "results/start/map.mrc")


def give_poses(args: argparse.Namespace) -> None:
    """Particles with poses near the true ones in results/given, and the ball that local refinements keep to in results/ball."""
    chance = np.random.default_rng(args.seed)
    table = read_table("results/stack/truth/particles.star", "particles").drop(columns="class_number")
    axes = chance.normal(size=(len(table), 3))
    turns = Rotation.from_rotvec(np.deg2rad(args.off) * axes / np.linalg.norm(axes, axis=1, keepdims=True))
    angles = (Rotation.from_euler("ZYZ", table[ANGLES].to_numpy(), degrees=True) * turns).as_euler("ZYZ", degrees=True)
    origins = table[["origin_x", "origin_y"]] + chance.normal(0, 1.0, (len(table), 2))
    Path("results/given").mkdir()
    write_table("results/given/particles.star", table.assign(**dict(zip(ANGLES, angles.T, strict=True)), **origins), "particles")
    Path("results/ball").mkdir()
    write_volume("results/ball/mask.mrc", ball(args).numpy(), args.pixel_size)


def timed(name: str, run: Program, args: argparse.Namespace) -> Found:
    """What a program found, or had found when it was run in the same folder before."""
    volume, particles, seconds = once(name, lambda: run(args))
    return Path(str(volume)), Path(str(particles)), float(seconds)


def run_firn(args: argparse.Namespace) -> Found:
    """(map, particles, CPU seconds)."""
    module: Any = refine_local if args.off else refine_homogeneous
    inputs = {"particles": ["results/given" if args.off else "results/stack"], "volume": ["results/start"]}
    inputs |= {"mask": ["results/ball"]} if args.off else {}
    settings = {name: Path(folder).name for name, (folder,) in inputs.items()} | {"particle_diameter": args.diameter}
    settings |= {} if args.off else {"symmetry": args.symmetry}
    before = resource.getrusage(resource.RUSAGE_SELF)
    with open_job(module.Params, settings, inputs, Path("results/map"), "map", threads=1) as job:
        module.run(job)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Path("results/map/map.mrc"), Path("results/map/particles.star"), seconds


def run_relion(args: argparse.Namespace) -> Found:
    """(map, particles, CPU seconds); both programs use the same half-sets."""
    Path("relion").mkdir(exist_ok=True)
    table = read_table("results/given/particles.star" if args.off else "results/stack/particles.star", "particles")
    write_table("relion.star", table, "particles")
    search = NEARBY if args.off else EVERYWHERE
    command = [*MPI, *RELION.split(), *search.split(), "--sym", args.symmetry, "--particle_diameter", str(args.diameter)]
    subprocess.run(command, check=True, capture_output=True)
    seconds = sum(rank_seconds(Path(f"relion/cpu_{rank}")) for rank in (1, 2))
    return Path("relion/run_class001.mrc"), Path("relion/run_data.star"), seconds


def rank_seconds(path: Path) -> float:
    """CPU seconds of a rank: the second line that `times` writes, of the shell's children, as 1m2.3s 0m4.5s."""
    spent = (part.rstrip("s").split("m") for part in path.read_text().splitlines()[1].split())
    return sum(60 * float(minutes) + float(seconds) for minutes, seconds in spent)


def report(args: argparse.Namespace, results: dict[str, Found]) -> None:
    """Print resolution against the truth, share of right poses, CPU time, and the ratios."""
    numbers = {
        name: (map_resolution(args, volume), *pose_errors(args, particles), seconds)
        for name, (volume, particles, seconds) in results.items()
    }
    for name, (resolution, right, median, seconds) in numbers.items():
        poses = f"poses within 5 degrees {right:5.1%}, median {median:5.2f} degrees"
        print(f"{name:7s} map-to-truth FSC 0.5 {resolution:6.2f} Å   {poses}   CPU {seconds:7.1f} s")
    if len(numbers) < len(PROGRAMS):
        return
    ratios = [ours / max(theirs, 1e-9) for ours, theirs in zip(numbers["firn"], numbers["relion"], strict=True)]
    print("ratio   resolution {:.3f}   poses {:.3f}   median {:.3f}   CPU {:.3f}".format(*ratios))


def map_resolution(args: argparse.Namespace, path: Path) -> float:
    """Å where the correlation with the truth falls to 0.5."""
    found, truth = (torch.tensor(read_mrc(file)[0]) for file in (path, "results/start/map.mrc"))
    inside = ball(args)
    return resolution_at(fsc(found * inside, truth * inside), 0.5, args.pixel_size, args.box_px)


def ball(args: argparse.Namespace) -> torch.Tensor:
    """Soft ball `(n, n, n)` of the particle's diameter."""
    return soft_sphere(args.box_px, args.diameter / 2 / args.pixel_size, 3.0)


def pose_errors(args: argparse.Namespace, path: Path) -> tuple[float, float]:
    """(share of particles within 5 degrees of the truth, or of an equivalent pose, median error in degrees)."""
    truth = read_table("results/stack/truth/particles.star", "particles").set_index("image")
    found = read_table(path, "particles").set_index("image").loc[truth.index]
    first, second = (euler_matrices(torch.tensor(table[ANGLES].to_numpy(np.float64))) for table in (found, truth))
    errors = torch.stack([rotation_distance(first, operator @ second) for operator in symmetry_matrices(args.symmetry)]).amin(0)
    return float((errors < 5).double().mean()), float(errors.median())


PROGRAMS: dict[str, Program] = {"firn": run_firn, "relion": run_relion}

if __name__ == "__main__":
    main()
