"""A mixture of three species with false picks: ab-initio from several seeds, then heterogeneous refinement from several starts.

Starts: maps of the first ab-initio seed, the species low-passed, these with a map of noise for the false picks, copies of one species.

    python benchmarks/heterogeneity.py --models a.cif b.cif c.cif --snr 0.1 --seeds 1 2 3 4 5 --starts ab_initio truth

Prints one line per run: species found (classes of different species whose map correlates with the truth beyond --found Å), share of
true particles in the class of their species after the best permutation, classes of the false picks, and CPU seconds of one thread.
--relion adds RELION on the same particles: its initial models (stochastic gradient descent), its 3D classification from these maps (own),
from the maps of the first ab-initio seed, and from the species; maps are low-passed to 30 Å first, as by refine_heterogeneous. Its image
tables hold for each particle the class where it was seen last.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

from firn.formats.mrc import read_mrc, write_volume
from firn.formats.tables import read_table
from firn.jobs import ab_initio, refine_heterogeneous, simulate_particles
from firn.kernels.align_volumes import align, place
from firn.kernels.fourier import fast_size, resize_volumes
from firn.kernels.fsc import fsc, resolution_at
from firn.kernels.mask import soft_sphere
from firn.runtime.entry import open_job

RELION = (
    "relion_refine --i results/stack/particles.star --ctf --flatten_solvent --zero_mask --oversampling 1 --offset_step 2 --j 1 "
    "--dont_combine_weights_via_disc --random_seed 1"
)
RELION_INITIAL = "--sgd --denovo_3dref --healpix_order 1 --pad 1 --skip_gridding --pool 3 --sgd_ini_resol 35 --sgd_fin_resol 15"
RELION_SORTING = "--ini_high 30 --healpix_order 2 --norm --scale --tau2_fudge 4 --firstiter_cc --pool 10"
RELION_LONG = {"descent": (50, 200, 50, 100, 500), "sorting": 25, "effort": "--offset_range 6"}
"""Iterations of the descent at first, between and last, and its batches at first and last; iterations of a classification."""
RELION_QUICK = {"descent": (15, 45, 15, 100, 200), "sorting": 12, "effort": "--offset_range 3 --maxsig 500"}
QUICK = {"starts": 3, "grown": 1, "final_iterations": 12, "max_resolution": 15.0}
FINEST = 15.0
"""Å. Detail used to lay maps on the truth."""
STACK = ["results/stack"]
Run = tuple[pd.DataFrame, list[Path]]
"""Particles with class_number, and the map of each class in order."""


def main() -> None:
    """Simulate once, sort in every way asked for, one line each."""
    options = parse()
    options.models = [str(Path(model).resolve()) if Path(model).exists() else model for model in options.models]
    options.out.mkdir(parents=True, exist_ok=True)
    os.chdir(options.out)
    if not Path("results/stack/job.json").exists():
        simulate(options)
    for seed in options.seeds:
        report(options, f"ab_initio_{seed}", lambda name, seed=seed: run_ab_initio(options, name, seed))
    for start in options.starts:
        report(options, f"sorted_{start}", lambda name, start=start: run_sorting(options, name, starts(options, start)))
    runs: dict[str, Callable[[str], Run]] = {
        "initial": lambda name: run_descent(options, name),
        "own": lambda name: run_classification(options, name, class_maps("relion_initial")),
        "ab_initio": lambda name: run_classification(options, name, class_starts("ab_initio", options)),
        "truth": lambda name: run_classification(options, name, class_starts("truth", options)),
    }
    for which in options.relion if shutil.which("relion_refine") else ():
        report(options, f"relion_{which}", runs[which])


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind, default in (
        ("particles", int, 900), ("seed", int, 11), ("snr", float, 0.1), ("junk", float, 0.12), ("box-px", int, 64), ("radius", float, 90.0),
        ("pixel-size", float, 4.0), ("diameter", float, 200.0), ("classes", int, 3), ("found", float, 30.0),
        ("sorting-box", int, 64), ("iterations", int, 30),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--models", nargs="+", default=["phantom"] * 3, help="phantom, or PDB or mmCIF files")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4, 5], help="of ab-initio reconstructions")
    parser.add_argument("--starts", nargs="*", default=["ab_initio", "truth"], choices=["ab_initio", "truth", "noise", "copies"])
    parser.add_argument("--no-rest", action="store_true", help="no class for the rest in ab-initio reconstruction")
    parser.add_argument("--quick", action="store_true", help="a third of the work of the defaults")
    parser.add_argument("--relion", nargs="+", default=[], choices=["initial", "own", "ab_initio", "truth"], help="in this order")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/heterogeneity"))
    return parser.parse_args()


def simulate(options: argparse.Namespace) -> None:
    """The mixture in results/stack, and its species one by one in results/species_<k>/map.mrc."""
    settings = {
        "models": options.models, "particles": options.particles, "box_px": options.box_px, "pixel_size": options.pixel_size,
        "snr": options.snr, "junk": options.junk, "seed": options.seed, "phantom_radius": options.radius,
    }  # fmt: skip
    with open_job(simulate_particles.Params, settings, {}, Path("results/stack"), "stack", threads=1) as job:
        simulate_particles.run(job)
    for number in range(1, len(options.models) + 1):
        folder = Path(f"results/species_{number}")
        folder.mkdir(exist_ok=True)
        shutil.copyfile(f"results/stack/truth/model_{number}.mrc", folder / "map.mrc")


def starts(options: argparse.Namespace, kind: str) -> list[str]:
    """Folders of the maps to sort by."""
    if kind == "ab_initio":
        return [f"results/ab_initio_{options.seeds[0] if options.seeds else 1}"]
    numbers = range(1, len(options.models) + 1)
    species = [f"results/species_{1 if kind == 'copies' else number}" for number in numbers]
    return [*species, noise_map()] if kind == "noise" else species


def noise_map() -> str:
    """Folder of a map of white noise as strong as the first species."""
    folder, (volume, pixel_size) = Path("results/species_noise"), read_mrc("results/species_1/map.mrc")
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).normal(scale=volume.std(), size=volume.shape)
    write_volume(folder / "map.mrc", noise.astype(np.float32), pixel_size)
    return str(folder)


def run_ab_initio(options: argparse.Namespace, name: str, seed: int) -> Run:
    """Ab-initio reconstruction of some classes."""
    settings = {"particles": "stack", "classes": options.classes, "particle_diameter": options.diameter, "seed": seed}
    settings["rest_class"] = not options.no_rest
    settings |= QUICK if options.quick else {}
    with open_job(ab_initio.Params, settings, {"particles": STACK}, Path(f"results/{name}"), name, threads=1) as job:
        ab_initio.run(job)
    table = pd.concat([read_table(path, "particles") for path in sorted(Path("results", name).glob("class_*/particles.star"))])
    return table, sorted(Path("results", name).glob("class_*/map.mrc"))


def run_sorting(options: argparse.Namespace, name: str, volumes: list[str]) -> Run:
    """Heterogeneous refinement from some maps."""
    settings = {
        "particles": "stack", "volumes": volumes, "particle_diameter": options.diameter, "initial_lowpass": 30.0,
        "box_px": options.sorting_box, "iterations": options.iterations,
    }  # fmt: skip
    inputs = {"particles": STACK, "volumes": volumes}
    with open_job(refine_heterogeneous.Params, settings, inputs, Path(f"results/{name}"), name, threads=1) as job:
        refine_heterogeneous.run(job)
    return read_table(f"results/{name}/all_particles.star", "particles"), sorted(Path("results", name).glob("class_*/map.mrc"))


def run_descent(options: argparse.Namespace, name: str) -> Run:
    """RELION's initial models."""
    ini, between, fin, first, last = relion_effort(options)["descent"]
    steps = f"--sgd_ini_iter {ini} --sgd_inbetween_iter {between} --sgd_fin_iter {fin} --sgd_write_iter {fin}"
    run_relion(options, name, f"{RELION_INITIAL} {steps} --sgd_ini_subset {first} --sgd_fin_subset {last}")
    return relion_result(name)


def run_classification(options: argparse.Namespace, name: str, maps: list[Path]) -> Run:
    """RELION's 3D classification from some maps."""
    Path(name).mkdir(exist_ok=True)
    listed = "\n".join(map(str, maps))
    Path(name, "starts.star").write_text(f"data_model_classes\n\nloop_\n_rlnReferenceImage\n{listed}\n")
    run_relion(options, name, f"{RELION_SORTING} --ref {name}/starts.star --iter {relion_effort(options)['sorting']}")
    return relion_result(name)


def relion_effort(options: argparse.Namespace) -> dict[str, Any]:
    """How long RELION works."""
    return RELION_QUICK if options.quick else RELION_LONG


def run_relion(options: argparse.Namespace, name: str, command: str) -> None:
    """RELION into the folder `name`."""
    Path(name).mkdir(exist_ok=True)
    whole = (
        f"{RELION} {command} {relion_effort(options)['effort']} --o {name}/run --K {options.classes} --particle_diameter {options.diameter}"
    )
    subprocess.run(whole.split(), check=True, capture_output=True)


def relion_result(name: str) -> Run:
    """Particles and maps of RELION's last iteration."""
    return read_table(sorted(Path(name).glob("run_it*_data.star"))[-1], "particles"), class_maps(name)


def class_maps(name: str) -> list[Path]:
    """Maps of RELION's last iteration."""
    last = sorted(Path(name).glob("run_it*_model.star"))[-1].name.removesuffix("_model.star")
    return sorted(Path(name).glob(f"{last}_class*.mrc"))


def class_starts(kind: str, options: argparse.Namespace) -> list[Path]:
    """Maps that refine_heterogeneous starts from."""
    return [path for folder in starts(options, kind) for path in sorted(Path(folder).glob("class_*/map.mrc")) or [Path(folder, "map.mrc")]]


def report(options: argparse.Namespace, name: str, run: Callable[[str], Run]) -> None:
    """Run and print one line."""
    before = cpu_seconds()
    table, maps = run(name)
    seconds = cpu_seconds() - before
    counts = confusion(table, len(options.models))
    species, classes = linear_sum_assignment(-counts[:-1])
    accuracy = counts[species, classes].sum() / counts[:-1].sum()
    reached = [agreement(options, maps[k], s) for s, k in zip(species, classes, strict=True)]
    found = sum(resolution <= options.found for resolution in reached)
    line = f"{name:16s} accuracy {accuracy:.3f}   false picks per class {' '.join(map(str, counts[-1]))}   CPU {seconds:.0f} s"
    line += f"   species found {found} of {len(options.models)} ({' '.join(f'{resolution:.0f}' for resolution in reached)} Å)"
    print(line, flush=True)


def cpu_seconds() -> float:
    """User and system time so far, children included."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def confusion(found: pd.DataFrame, species: int) -> np.ndarray:
    """Particles `(species + 1, classes)`, false picks last."""
    truth = read_table("results/stack/truth/particles.star", "particles").set_index("image").loc[found["image"], "class_number"].to_numpy()
    number = found["class_number"].to_numpy()
    counts = np.zeros((species + 1, max(species, number.max())), dtype=int)
    np.add.at(counts, (truth - 1, number - 1), 1)
    return counts


def agreement(options: argparse.Namespace, path: Path, species: int) -> float:
    """Å where the correlation with a species falls to 0.5 after alignment, best of both hands."""
    volume, pixel_size = read_mrc(path)
    extent = len(volume) * pixel_size
    n = min(len(volume), fast_size(round(2.2 * extent / FINEST)))
    found, truth = (resize_volumes(torch.tensor(part), n) for part in (volume, read_mrc(f"results/species_{species + 1}/map.mrc")[0]))
    pixel_size = extent / n
    ball = soft_sphere(n, options.diameter / 2 / pixel_size, 3.0)
    reached = []
    for hand in (found, torch.roll(found.flip(0), 1 - n % 2, 0)):
        placement = align(hand, truth, extent / FINEST)
        aligned = place(hand, placement.rotation, placement.shift)
        reached.append(resolution_at(fsc(aligned * ball, truth * ball), 0.5, pixel_size, n))
    return min(reached)


if __name__ == "__main__":
    main()
