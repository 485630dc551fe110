"""Non-uniform refinement as a job: a membrane protein in a micelle that differs from particle to particle; pure noise."""

from pathlib import Path

import numpy as np
import torch

from firn.formats.volumes import read_volume
from firn.jobs import refine_homogeneous, refine_nonuniform
from firn.kernels.filter import low_pass_volume
from firn.kernels.fsc import fsc
from firn.kernels.mask import soften
from firn.runtime.entry import open_job
from firn.simulate.phantom import Phantom, phantom_volume, random_phantom
from refine_session import BOX, PIXEL, simulate, write_particles, write_session, write_start

COARSE = {"initial_lowpass": 40.0, "particle_diameter": 140.0}
PROTEIN = random_phantom(60, 32.0, seed=4, widths=(3.0, 4.5))


def in_micelle(chance: np.random.Generator, jitter: float) -> Phantom:
    """The protein in a belt of detergent whose blobs lie elsewhere in every particle."""
    count = 60
    around = np.linspace(0, 2 * np.pi, count, endpoint=False)
    belt = np.stack((48 * np.cos(around), 48 * np.sin(around), 8 * np.sin(7 * around)), -1) + chance.normal(0, jitter, (count, 3))
    positions = np.concatenate((PROTEIN.positions, belt))
    weights = np.concatenate((PROTEIN.weights, np.full(count, 1.2)))
    return Phantom(positions, np.concatenate((PROTEIN.widths, np.full(count, 5.0))), weights)


def write_membrane_session(folder: Path, count: int, snr: float) -> None:
    chance = np.random.default_rng(3)
    truth = simulate(count, [in_micelle(chance, 8.0) for _ in range(count)], np.arange(count))
    write_particles(folder, truth, truth.clean * np.sqrt(snr) + chance.normal(size=truth.clean.shape))
    write_start(folder, phantom_volume(in_micelle(chance, 0.0), BOX, PIXEL))


def refine(job_type, name: str, **settings) -> None:
    inputs = {"particles": ["keep"], "volume": ["start"]}
    settings = {"particles": "keep", "volume": "start", **COARSE, **settings}
    with open_job(job_type.Params, settings, inputs, Path(f"results/{name}"), name, threads=1) as job:
        job_type.run(job)


def agreement(name: str) -> float:
    """Mean FSC with the true protein, inside it, from 40 Å to two pixels."""
    truth = torch.tensor(phantom_volume(PROTEIN, BOX, PIXEL))
    mask = soften(truth > 0.1 * truth.max(), 2.0, 0.5)
    return float(fsc(torch.tensor(read_volume(f"results/{name}/map.mrc")[0]) * mask, truth * mask)[4:15].mean())


def test_a_protein_in_a_disordered_micelle_comes_out_better_than_from_homogeneous_refinement(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_membrane_session(tmp_path, count=160, snr=0.25)
    refine(refine_homogeneous, "one", iterations=4)
    refine(refine_nonuniform, "local", iterations=4)
    assert agreement("local") > agreement("one") + 0.01


def test_no_detail_is_refined_from_noise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=120, snr=0.0)
    refine(refine_nonuniform, "noise", iterations=3)
    first, second = (torch.tensor(read_volume(f"results/noise/half{half}.mrc")[0]) for half in (1, 2))
    assert float(fsc(first, second)[round(BOX * PIXEL / 40.0) + 2 :].mean()) < 0.1
    volume = torch.tensor(read_volume("results/noise/map.mrc")[0])
    kept, given = (part - low_pass_volume(part, PIXEL, 30.0) for part in (volume, (first + second) / 2))
    assert float(kept.std()) < 0.1 * float(given.std())
