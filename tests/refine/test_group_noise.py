"""Noise by exposure: groups of different noise are told apart, and small groups lean on the others."""

import numpy as np
import torch

from firn.refine.homogeneous import Refinement
from firn.refine.maximisation import GROUP_PRIOR, Residuals
from firn.refine.state import CTF_COLUMNS, Optics, Particles, Settings
from firn.simulate.phantom import phantom_volume
from refine_session import BOX, PHANTOM, PIXEL, simulate


def refinement(noise_sd: np.ndarray) -> Refinement:
    """Particles in as many groups as there are standard deviations of their noise."""
    count = 80
    truth = simulate(count, [PHANTOM], np.zeros(count, int))
    group = np.arange(count) % len(noise_sd)
    noise = noise_sd[group][:, None, None] * np.random.default_rng(1).normal(size=truth.clean.shape)
    values = {"defocus_u": truth.defocus, "defocus_v": truth.defocus, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}
    optics = Optics(*(torch.tensor(np.broadcast_to(values.get(name, 0.0), count).copy()) for name in CTF_COLUMNS))
    images = torch.tensor((truth.clean + noise).astype(np.float32))
    particles = Particles(images, optics, torch.tensor(1 + (np.arange(count) // 2) % 2), torch.tensor(group), PIXEL)
    start = torch.tensor(phantom_volume(PHANTOM, BOX, PIXEL))
    settings = Settings("C1", 23.0, 11.5, 2.0, 8.0, 10.0, 2.0)
    return Refinement(particles, (start, start), settings, lambda volume, shell: None, lambda rows, step: iter(rows), torch.Generator())


def test_exposures_of_different_noise_are_told_apart():
    engine = refinement(np.array([2.0, 4.0]))
    with torch.inference_mode():
        for _ in engine.run(2):
            pass
    for model in engine.models:
        ratio = model.noise[1, 2:8] / model.noise[0, 2:8]
        assert abs(float(ratio.log().mean().exp()) / 4 - 1) < 0.25
        assert abs(float(model.noise[0, 2:8].mean()) / (2 * BOX) ** 2 - 1) < 0.3


def test_a_group_that_saw_nothing_has_the_common_noise():
    residuals = Residuals(torch.ones(3, 5), 1.0)
    residuals._powers_[0] = torch.tensor([[4000.0] * 5, [1000.0] * 5, [0.0] * 5])
    residuals._count_ += torch.tensor([[2000.0], [2000.0], [0.0]])
    found = residuals.noise_spectrum(scaled=True)
    common = 5000 / 4000
    relative = (5 * 4000 / common + GROUP_PRIOR) / (5 * 2000 + GROUP_PRIOR)
    assert torch.allclose(found[2], torch.full((5,), common))
    assert torch.allclose(found[0], torch.full((5,), (4000 + GROUP_PRIOR * relative * common) / (2000 + GROUP_PRIOR)))
    assert float(found[0, 0]) > common > float(found[1, 0])
