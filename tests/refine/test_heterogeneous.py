"""Heterogeneous refinement: what half-sets share, and how copies of a map part."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from firn.families.refinement import particles_of
from firn.formats.particles import read_particles
from firn.kernels.fsc import fsc
from firn.refine.heterogeneous import ANNEALED, Heterogeneous, Online
from firn.refine.state import Particles, Settings
from firn.simulate.phantom import phantom_volume
from refine_session import BOX, PHANTOM, PIXEL, simulate, write_particles

START_RADIUS = 4.0
SETTINGS = Settings("C1", diameter=23.0, mask_radius=11.5, mask_edge=2.0, initial_radius=START_RADIUS, max_radius=9.0, shift_reach=3.0)
ONLINE = Online(batch=100, rate=0.2, settled=0.05, full_passes=1, hard=False)
START = torch.tensor(phantom_volume(PHANTOM, BOX, PIXEL))


def simulated(noise: float) -> Particles:
    """In the working directory."""
    truth = simulate(60, [PHANTOM], np.zeros(60, int))
    write_particles(Path.cwd(), truth, truth.clean + noise * np.random.default_rng(3).normal(size=truth.clean.shape))
    return particles_of(read_particles("keep/particles.star"), PIXEL, False)


@pytest.fixture
def particles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Particles:
    monkeypatch.chdir(tmp_path)
    return simulated(1.0)


def refinement(particles: Particles, starts: list[torch.Tensor]) -> Heterogeneous:
    return Heterogeneous(particles, starts, SETTINGS, ONLINE, lambda batches, step: batches, torch.Generator().manual_seed(1))


def test_half_sets_share_nothing_beyond_the_resolution_of_the_start(particles: Particles) -> None:
    """Other images in half-set 2 leave half-set 1 alone there; no mask, which would spread what lies below."""
    noise = torch.randn(particles.images.shape, generator=torch.Generator().manual_seed(2))
    others = replace(particles, images=particles.images + noise * (particles.half == 2)[:, None, None])
    volumes = []
    for images in (particles, others):
        engine = refinement(images, [START, START.flip(0)])
        engine.course.radius, engine.sphere = 12.0, torch.ones_like(engine.sphere)
        engine.step(10)
        volumes.append([models[0].volume for models in engine.models])
    same, changed = (fsc(before, after) for before, after in zip(*volumes, strict=True))
    assert float(same[9:12].min()) > 0.95
    assert float(changed[9:12].max()) < 0.9
    assert float(fsc(*volumes[1])[1 : int(START_RADIUS) - 1].min()) > 0.99


def test_copies_share_out_the_particles_and_other_classes_do_not(particles: Particles) -> None:
    engine = refinement(particles, [START, START, START.flip(0)])
    weights = engine._parting(500)
    assert torch.equal((weights[:, :2] == 0).sum(1), torch.ones(500, dtype=torch.long))
    assert float((weights[:, 0] == 0).double().mean()) == pytest.approx(0.5, abs=0.1)
    assert bool((weights[:, 2] == 0).all())


def test_evidence_counts_in_full_without_copies_and_more_and_more_with_them(particles: Particles) -> None:
    evidence = torch.tensor([[3.0, 1.0]])
    nothing = torch.zeros(1, 2)
    assert torch.equal(refinement(particles, [START, START.flip(0)])._annealed(evidence, 1, nothing), evidence)
    engine = refinement(particles, [START, START])
    differences = [float(engine._annealed(evidence, number, nothing).diff().abs()) for number in range(2, ANNEALED + 2)]
    assert differences == sorted(differences)
    assert differences[0] < 0.5
    assert differences[-1] == pytest.approx(2.0)


def test_noise_is_searched_everywhere_while_it_strays_and_particles_that_settled_nearby(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    particles = simulated(0.2)
    empty = torch.arange(len(particles)) % 4 == 0
    noise = torch.randn(particles.images.shape, generator=torch.Generator().manual_seed(2)).to(particles.images)
    engine = refinement(replace(particles, images=torch.where(empty[:, None, None], noise, particles.images)), [START, START.flip(0)])
    wide, strays = [], []
    for _ in range(4):
        engine.result = engine.step(10)
        wide.append(engine.result.wide)
        strays.append(engine.strays.clone())
    assert wide[:2] == [1.0, 1.0]
    assert wide[2:] == [pytest.approx(float(before.double().mean())) for before in strays[1:3]]
    assert not (strays[2] & ~strays[1]).any()
    assert float(strays[3][empty].double().mean()) > 2 * float(strays[3][~empty].double().mean())
