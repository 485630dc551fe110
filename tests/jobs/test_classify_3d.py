"""Classification at fixed poses: species come apart, what supports no classes is told so, halves keep their place."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.tables import read_table
from firn.formats.volumes import read_volume
from firn.jobs import classify_3d, reconstruct
from firn.kernels.fsc import fsc
from firn.kernels.mask import soft_sphere
from firn.refine import posed_classes
from firn.refine.posed_classes import PosedClasses
from firn.runtime.entry import open_job
from firn.simulate.phantom import Phantom, phantom_volume, random_phantom
from posed_particles import random_angles, write_particles

BOX, PIXEL = 32, 6.0
CORE = random_phantom(60, 40.0, seed=1, widths=(3.5, 5.0))


def with_lobe(centre: tuple[float, float, float]) -> Phantom:
    """The core with a domain of about a sixth of its mass at a place xyz in Å."""
    lobe = random_phantom(10, 12.0, seed=5, widths=(3.5, 5.0))
    lobe = Phantom(lobe.positions + np.array(centre), lobe.widths, lobe.weights * CORE.weights.mean() / lobe.weights.mean())
    return Phantom(*(np.concatenate((getattr(CORE, name), getattr(lobe, name))) for name in ("positions", "widths", "weights")))


SPECIES = [with_lobe((0.0, 40.0, 20.0)), CORE]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_volume("ball/mask.mrc", soft_sphere(BOX, 11.0, 3.0).numpy(), PIXEL)


def classify(volumes: list[str] | None = None, **settings: Any) -> dict[str, Any]:
    inputs = {"particles": ["posed"], "mask": ["ball"], **({"volumes": volumes} if volumes else {})}
    slots = {"particles": "posed", "mask": "ball", **({"volumes": volumes} if volumes else {})}
    given = {**slots, "resolution": 15.0, "initial_resolution": 24.0, "held_out": False, **settings}
    with open_job(classify_3d.Params, given, inputs, Path("results/sorted"), "sorted", threads=1) as job:
        classify_3d.run(job)
    return json.loads(Path("results/sorted/job.json").read_text(encoding="utf-8"))


def purity() -> float:
    """Part of the particles in their species' class, the two species having taken turns."""
    numbers = read_table("results/sorted/particles.star", "particles")["class_number"].to_numpy()
    agree = float((numbers == 1 + np.arange(len(numbers)) % 2).mean())
    return max(agree, 1 - agree)


def test_a_mixture_comes_apart_into_its_species_and_each_class_has_its_map():
    write_particles("posed", SPECIES, random_angles(500), BOX, PIXEL, snr=0.2)
    record = classify(iterations=8, held_out=True)
    assert purity() > 0.93
    assert record["metrics"]["supported_classes"]["value"] == 2
    assert record["metrics"]["held_out_gain"]["value"] > 10 * record["metrics"]["held_out_gain_error"]["value"]
    assert not record["warnings"]
    assert record["metrics"]["class_1_fraction"]["value"] == pytest.approx(0.5, abs=0.06)
    ball = soft_sphere(BOX, 11.0, 3.0)
    truths = [torch.tensor(phantom_volume(species, BOX, PIXEL)) for species in SPECIES]
    numbers = read_table("results/sorted/particles.star", "particles")["class_number"].to_numpy()
    for number in (1, 2):
        species = round(float(np.mean(np.flatnonzero(numbers == number) % 2)))
        volume = torch.tensor(read_volume(f"results/sorted/class_{number}/map.mrc")[0])
        closeness = [float(fsc(volume * ball, truth * ball)[4:9].mean()) for truth in truths]
        assert closeness[species] > max(0.85, closeness[1 - species])
        assert len(read_table(f"results/sorted/class_{number}/particles.star", "particles")) == int((numbers == number).sum())
        for name in ("half1.mrc", "half2.mrc", "mask.mrc", "fsc.star"):
            assert (Path(f"results/sorted/class_{number}") / name).exists()


def test_class_maps_are_on_the_grey_scale_of_reconstruct():
    write_particles("posed", CORE, random_angles(200), BOX, PIXEL)
    with open_job(reconstruct.Params, {"particles": "posed"}, {"particles": ["posed"]}, Path("results/map"), "map", threads=1) as job:
        reconstruct.run(job)
    classify(volumes=["results/map", "results/map"], iterations=1)
    inside = soft_sphere(BOX, 9.0, 1.0).numpy() > 0.5
    expected = read_volume("results/map/half1.mrc")[0][inside]
    for number in (1, 2):
        found = read_volume(f"results/sorted/class_{number}/half1.mrc")[0][inside]
        assert (found @ expected) / (expected @ expected) == pytest.approx(1, abs=0.03)


def test_given_maps_decide_the_classes_whatever_their_grey_scale():
    write_particles("posed", SPECIES, random_angles(300), BOX, PIXEL, snr=0.2)
    for name, species, scale in (("a", SPECIES[0], 5.0), ("b", SPECIES[1], 0.2)):
        write_volume(f"{name}/map.mrc", scale * phantom_volume(species, BOX, PIXEL), PIXEL)
    classify(volumes=["a", "b"], iterations=3)
    assert purity() > 0.93


def test_outside_the_focus_classes_are_not_told_apart():
    write_particles("posed", SPECIES, random_angles(300), BOX, PIXEL, snr=0.2)
    for name, species in (("a", SPECIES[0]), ("b", SPECIES[1])):
        write_volume(f"{name}/map.mrc", phantom_volume(species, BOX, PIXEL), PIXEL)
    elsewhere = torch.roll(soft_sphere(BOX, 3.0, 2.0), (-6, -6), (0, 1))
    write_volume("focus/mask.mrc", elsewhere.numpy(), PIXEL)
    inputs = {"particles": ["posed"], "mask": ["ball"], "focus": ["focus"]}
    given = {
        "particles": "posed",
        "mask": "ball",
        "focus": "focus",
        "resolution": 15.0,
        "initial_resolution": 24.0,
        "iterations": 4,
        "held_out": False,
    }
    with open_job(classify_3d.Params, given, inputs, Path("results/sorted"), "sorted", threads=1) as job:
        classify_3d.run(job)
    assert purity() < 0.75


@pytest.mark.parametrize("snr", [0.2, 0.0])
def test_equal_particles_and_noise_are_said_to_support_one_class_only(snr: float):
    write_particles("posed", CORE, random_angles(500), BOX, PIXEL, snr=snr)
    record = classify(iterations=6, held_out=True)
    assert record["metrics"]["supported_classes"]["value"] == 1
    assert any(warning.startswith("No two classes are supported") for warning in record["warnings"])


def test_more_classes_than_there_are_species_are_said_to_be_too_many():
    write_particles("posed", SPECIES, random_angles(500), BOX, PIXEL, snr=0.2)
    record = classify(iterations=6, held_out=True, classes=4)
    assert record["metrics"]["supported_classes"]["value"] == 2
    assert any("2 of 4 classes are supported" in warning for warning in record["warnings"])


def test_pure_noise_gives_class_maps_that_agree_nowhere():
    write_particles("posed", CORE, random_angles(300), BOX, PIXEL, snr=0.0)
    classify(iterations=3)
    ball = soft_sphere(BOX, 11.0, 3.0)
    for number in (1, 2):
        halves = (torch.tensor(read_volume(f"results/sorted/class_{number}/half{half}.mrc")[0]) * ball for half in (1, 2))
        assert abs(float(fsc(*halves)[3:12].mean())) < 0.12


def test_a_killed_run_goes_on_where_it_was_and_ends_alike(monkeypatch):
    monkeypatch.setattr(posed_classes, "SETTLED", -1.0)
    write_particles("posed", SPECIES, random_angles(120), BOX, PIXEL, snr=0.1)
    classify(iterations=4)
    whole = read_table("results/sorted/particles.star", "particles")
    started: list[int] = []
    original = PosedClasses._posterior

    def dying(self, references, fractions, radius, step):
        started.append(int(step.split("iteration ")[1].split(",")[0]))
        if len(started) == 3:
            raise KeyboardInterrupt
        return original(self, references, fractions, radius, step)

    monkeypatch.setattr(PosedClasses, "_posterior", dying)
    shutil.rmtree("results/sorted")
    with pytest.raises(KeyboardInterrupt):
        classify(iterations=4)
    classify(iterations=4)
    assert started == [1, 2, 3, 3, 4]
    again = read_table("results/sorted/particles.star", "particles")
    np.testing.assert_allclose(again["class_probability"], whole["class_probability"], atol=1e-5)


def test_too_few_particles_and_contradictory_resolutions_are_refused():
    write_particles("posed", CORE, random_angles(60), BOX, PIXEL)
    with pytest.raises(InputError, match="60 particles are too few for 2 classes"):
        classify()
    with pytest.raises(InputError, match="too few for 3"):
        classify(classes=3)
    write_particles("posed", CORE, random_angles(120), BOX, PIXEL)
    with pytest.raises(InputError, match="finer than two pixels"):
        classify(resolution=5.0)
    with pytest.raises(InputError, match="finer than resolution"):
        classify(initial_resolution=13.0)
