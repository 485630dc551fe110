"""How often ab-initio reconstruction finds the molecule: several seeds on one simulated stack, beside RELION's where installed.

    python benchmarks/ab_initio_seeds.py --seeds 5 --model phantom --symmetry C1 --relion

Prints, per seed, the resolution at which the FSC with the truth falls to 0.5 (best alignment of both hands), and CPU seconds.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from firn.formats.mrc import read_mrc
from firn.jobs import ab_initio, simulate_particles
from firn.kernels.fourier import irfft3, resize_volumes, rfft3
from firn.kernels.fsc import fsc, resolution_at
from firn.kernels.mask import soft_sphere
from firn.kernels.sampling import local_rotations, rotation_grid
from firn.runtime.entry import open_job

COARSE_SIDE = 24


def main() -> None:
    """Simulate once, reconstruct with every seed, print one line per seed."""
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    os.chdir(options.out)
    simulate(options)
    truth, pixel_size = read_mrc("results/stack/truth/model.mrc")
    for seed in range(options.seeds):
        report(f"firn seed {seed}", truth, pixel_size, *reconstruct(options, seed))
        if options.relion and shutil.which("relion_refine"):
            report(f"relion seed {seed}", truth, pixel_size, *relion(options, seed))


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data-seed", type=int, default=0, help="of the simulated particles")
    parser.add_argument("--model", default="phantom", help="phantom, or a PDB or mmCIF file")
    parser.add_argument("--symmetry", default="C1")
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--snr", type=float, default=0.1)
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--pixel-size", type=float, default=3.0)
    parser.add_argument("--diameter", type=float, default=140.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--relion", action="store_true", help="run relion_refine --sgd beside it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/ab_initio_seeds"))
    return parser.parse_args()


def simulate(options: argparse.Namespace) -> None:
    """Write results/stack."""
    settings = {
        "models": [options.model], "particles": options.particles, "box_px": options.box, "pixel_size": options.pixel_size, "snr": options.snr,
        "seed": options.data_seed,
    }  # fmt: skip
    with open_job(simulate_particles.Params, settings, {}, Path("results/stack"), "stack", threads=options.threads) as job:
        simulate_particles.run(job)


def reconstruct(options: argparse.Namespace, seed: int) -> tuple[np.ndarray, float]:
    """(map, CPU seconds) of our job."""
    settings = {"particles": "stack", "symmetry": options.symmetry, "particle_diameter": options.diameter, "seed": seed}
    start, home = time.process_time(), Path(f"results/seed_{seed}")
    with open_job(ab_initio.Params, settings, {"particles": ["results/stack"]}, home, home.name, threads=options.threads) as job:
        ab_initio.run(job)
    return read_mrc(home / "map.mrc")[0], time.process_time() - start


def relion(options: argparse.Namespace, seed: int) -> tuple[np.ndarray, float]:
    """(map, CPU seconds) of RELION's stochastic gradient descent with its own defaults for initial models."""
    folder = Path(f"relion_{seed}")
    folder.mkdir(exist_ok=True)
    command = (
        f"relion_refine --o {folder}/run --i results/stack/particles.star --sgd --denovo_3dref --ctf --K 1 --sym {options.symmetry} "
        f"--particle_diameter {options.diameter} --flatten_solvent --zero_mask --oversampling 1 --healpix_order 1 --offset_range 6 "
        "--offset_step 2 --pad 1 --sgd_ini_iter 50 --sgd_inbetween_iter 200 --sgd_fin_iter 50 --sgd_ini_resol 35 --sgd_fin_resol 15 "
        f"--sgd_ini_subset 100 --sgd_fin_subset 500 --dont_combine_weights_via_disc --random_seed {seed + 1} --j {options.threads}"
    )
    start = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)
    return read_mrc(sorted(folder.glob("run_it*_class001.mrc"))[-1])[0], resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - start


def report(name: str, truth: np.ndarray, pixel_size: float, volume: np.ndarray, seconds: float) -> None:
    """One line."""
    resolution, hand = agreement(torch.from_numpy(truth), torch.from_numpy(volume), pixel_size)
    print(f"{name}: FSC 0.5 with the truth at {resolution:.1f} Å ({hand} hand), CPU {seconds:.0f} s", flush=True)


def agreement(truth: torch.Tensor, volume: torch.Tensor, pixel_size: float) -> tuple[float, str]:
    """(Å where the FSC after alignment falls to 0.5, which hand): exhaustive rotations at low resolution, then local ones."""
    n = truth.shape[-1]
    mask = soft_sphere(n, 0.4 * n, 0.08 * n)
    best = (float("inf"), "same")
    for name, hand in (("same", volume), ("other", torch.roll(volume.flip(0), 1 - n % 2, 0))):
        rotation = search(resize_volumes(truth, COARSE_SIDE), resize_volumes(hand, COARSE_SIDE), rotation_grid(2))
        for step in (7.5, 3.75):
            rotation = search(
                resize_volumes(truth, COARSE_SIDE), resize_volumes(hand, COARSE_SIDE), rotation @ local_rotations(step, 1.8 * step)
            )
        rotation = search(truth, hand, rotation @ local_rotations(1.5, 1.5))
        aligned = moved_onto(truth, turned(hand, rotation[None])[0])
        best = min(best, (resolution_at(fsc(truth * mask, aligned * mask), 0.5, pixel_size, n), name))
    return best


def search(truth: torch.Tensor, volume: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
    """The rotation whose turned volume correlates best with the truth at any shift."""
    scores = []
    for part in rotations.split(32):
        stack = turned(volume, part)
        scores.append(cross(truth, stack).flatten(1).amax(1) / stack.flatten(1).norm(dim=1))
    return rotations[torch.cat(scores).argmax()]


def turned(volume: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
    """Volumes `(b, n, n, n)` read at the rotated grid."""
    n = volume.shape[-1]
    axis = torch.arange(n) - n // 2
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).float()
    grid = torch.flip((torch.einsum("bij,zyxj->bzyxi", rotations, points) + n // 2) * (2 / (n - 1)) - 1, (-1,))
    return torch.nn.functional.grid_sample(volume.expand(len(rotations), 1, n, n, n), grid, align_corners=True)[:, 0]


def cross(truth: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
    """Cross-correlations; no shift lies at `n // 2`."""
    n = truth.shape[-1]
    return irfft3(rfft3(truth) * rfft3(stack).conj(), (n, n, n))


def moved_onto(truth: torch.Tensor, volume: torch.Tensor) -> torch.Tensor:
    """The volume moved by the whole pixels that correlate best."""
    n = truth.shape[-1]
    peak = int(cross(truth, volume[None]).argmax())
    moves = [index - n // 2 for index in (peak // n**2, peak // n % n, peak % n)]
    return torch.roll(volume, moves, dims=(0, 1, 2))


if __name__ == "__main__":
    main()
