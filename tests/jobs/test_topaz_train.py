"""Training with Topaz: labels where particles are, a share that comes out right however Topaz counts, the best epoch. A stand-in plays Topaz."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.families.topaz_training import pixels_of_disc
from firn.formats.mrc import write_image
from firn.formats.tables import write_table
from firn.jobs import topaz_train
from firn.runtime.entry import open_job
from topaz_stand_in import write_stand_in

HOME = Path("results/trained")
SHAPE, FACTOR, RADIUS, LABELS = (90, 121), 4, 2, 3
DISC = 13
"""Pixels within 2 pixels of one: 1 + 4 + 4 + 4."""


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five micrographs, each with three known particles."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(write_stand_in(tmp_path / "bin" / "topaz").parent))
    rows = []
    for name in "abcde":
        write_image(f"{name}.mrc", np.random.default_rng(1).normal(size=SHAPE).astype(np.float32), 2.0)
        shared = {"exposure_id": name, "batch": "0001", "micrograph": f"{name}.mrc", "micrograph_pixel_size": 2.0, "voltage_kv": 300.0}
        rows += [shared | {"x_px": 20.0 * number, "y_px": 10.0 * number} for number in range(1, LABELS + 1)]
    write_table("results/known/picks.star", pd.DataFrame(rows), "picks")


def trained(**settings: Any) -> None:
    wanted = {"type": "topaz_train", "expected_particles": 10, "downsampling": FACTOR, "radius": RADIUS, "epochs": 3, "updates": 2}
    kind = "particles" if "particles" in settings else "picks"
    with open_job(topaz_train.Params, wanted | {kind: "known"} | settings, {kind: ["results/known"]}, HOME, "trained", threads=1) as job:
        topaz_train.run(job)


def options() -> dict[str, str]:
    told = json.loads((HOME / "topaz.json").read_text())["arguments"][1]
    return dict(option.removeprefix("--").split("=") for option in told if "=" in option)


def test_the_best_epoch_on_micrographs_kept_apart_is_the_model() -> None:
    trained()
    assert (HOME / "model.sav").read_text().splitlines()[0] == "2"
    told = json.loads((HOME / "model.json").read_text())
    assert told == {"downsampling": 4, "pixel_size": 8.0, "architecture": "resnet8", "epoch": 2}
    metrics = {name: entry["value"] for name, entry in json.loads((HOME / "job.json").read_text())["metrics"].items()}
    assert metrics["test micrographs"] == 1
    assert metrics["known particles"] == 15
    assert (HOME / "figures/training.png").exists()
    assert not (HOME / "topaz").exists()


def test_topaz_expects_as_many_particles_as_are_however_it_counts() -> None:
    """The stand-in counts the pixels of a disc 2 radius + 1 times; what it takes off pi leaves the unknown particles."""
    trained()
    pixels = (SHAPE[0] // FACTOR) * (SHAPE[1] // FACTOR)
    counted = LABELS * DISC * (2 * RADIUS + 1) / pixels
    assert float(options()["pi"]) - counted == pytest.approx((10 - LABELS) * DISC / pixels, rel=1e-4)


def test_without_micrographs_kept_apart_the_last_epoch_is_the_model() -> None:
    trained(test_fraction=0)
    assert (HOME / "model.sav").read_text().splitlines()[0] == "3"
    assert "test-images" not in options()


@pytest.mark.parametrize(("radius", "pixels"), [(0, 1), (1, 5), (2, 13), (3, 29)])
def test_a_disc_has_the_pixels_within_its_radius(radius: int, pixels: int) -> None:
    assert pixels_of_disc(radius) == pixels


def test_labels_lie_on_the_smaller_micrographs_and_particles_at_their_refined_centres() -> None:
    """A shift of 8 Å to the right is how a particle four pixels left of its coordinate is centred, which is one pixel here."""
    row = {"exposure_id": "a", "batch": "0001", "micrograph": "a.mrc", "micrograph_pixel_size": 2.0, "voltage_kv": 300.0}
    table = pd.DataFrame([row | {"x_px": 44.0, "y_px": 21.0, "origin_x": 8.0, "origin_y": 0.0, "image": "1@x.mrcs"}])
    write_table("results/known/particles.star", table, "particles")
    trained(particles="known")
    assert (HOME / "model.sav").read_text() == "3\nimage_name\tx_coord\ty_coord\nm000000\t10\t5\n"


def test_micrographs_are_drawn_when_there_are_too_many() -> None:
    trained(max_micrographs=2)
    assert json.loads((HOME / "job.json").read_text())["metrics"]["micrographs"]["value"] == 2


def test_one_micrograph_is_too_few_to_keep_one_apart() -> None:
    trained(max_micrographs=1)
    assert "too few micrographs to keep one apart" in json.loads((HOME / "job.json").read_text())["warnings"][0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"expected_particles": 3}, "expected_particles is 3, but 3.0 particles of a micrograph are given on average"),
        ({"executable": "nowhere/topaz"}, "'nowhere/topaz' is no program"),
        ({"arguments": ["--no-such"]}, "topaz train: ended with exit code 2"),
    ],
)
def test_what_goes_wrong_is_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        trained(**settings)
    assert not (HOME / "job.json").exists()


def test_picks_or_particles_are_needed() -> None:
    with pytest.raises(ValueError, match="either picks or particles"):
        topaz_train.Params(expected_particles=10)
