"""One exposure of a session: its scene with and without motion, and its tilt."""

from dataclasses import replace

import numpy as np

from firn.simulate.ctf import Optics
from firn.simulate.movie import Exposure
from firn.simulate.session import Plan, plan_shot, shoot, unmoved
from firn.simulate.specimen import load_specimen

SPECIMEN = load_specimen("phantom", 6.0, 3, 30.0)
EXPOSURE = Exposure(1, 5.0, 0.0, 300.0, 3.0)
PLAN = Plan(Optics(pixel_size=3.0), EXPOSURE, 96, 80, 4, 60.0, 6.0, (8000.0, 9000.0), 100.0, 3.0, 300.0, 1.0, 0.0, 0.0)


def test_a_frame_that_stands_still_is_the_exposure_had_nothing_moved() -> None:
    shot = plan_shot(PLAN, "good", [SPECIMEN], [1.0], np.random.default_rng(1))
    (frame,) = shoot(PLAN, shot, [SPECIMEN], np.random.default_rng(2))
    np.testing.assert_allclose(unmoved(PLAN, shot, [SPECIMEN], np.random.default_rng(2)), frame, rtol=1e-6)


def test_the_exposure_without_its_motion_is_sharper_but_as_bright() -> None:
    plan = replace(PLAN, exposure=replace(EXPOSURE, frames=6), drift_px=12.0)
    shot = plan_shot(plan, "good", [SPECIMEN], [1.0], np.random.default_rng(1))
    blurred = sum(shoot(plan, shot, [SPECIMEN], np.random.default_rng(2)))
    still = unmoved(plan, shot, [SPECIMEN], np.random.default_rng(2))
    assert still.shape == (96, 80)
    assert abs(still.mean() / np.mean(blurred) - 1) < 0.02
    assert still.std() > 1.05 * np.std(blurred)


def test_the_tilt_lies_between_its_least_and_greatest() -> None:
    plan = replace(PLAN, tilt=25.0, least_tilt=25.0)
    assert plan_shot(plan, "good", [SPECIMEN], [1.0], np.random.default_rng(4)).tilt == 25.0
