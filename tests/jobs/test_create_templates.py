"""Templates made from a map: evenly spread, white, at the wanted resolution, and fit for picking."""

from pathlib import Path

import numpy as np
import pytest

from firn.formats.mrc import read_mrc, write_volume
from firn.formats.tables import read_table
from firn.jobs import create_templates
from firn.runtime.entry import open_job


def _run(**settings: object) -> None:
    wanted = {"type": "create_templates", "volume": "map"} | settings
    with open_job(create_templates.Params, wanted, {"volume": ["results/map"]}, Path("results/templates"), "templates") as job:
        create_templates.run(job)


@pytest.fixture
def ellipsoid(tmp_path, monkeypatch):
    """A soft ellipsoid, 160 Å along z and 80 Å across."""
    monkeypatch.chdir(tmp_path)
    z, y, x = (np.mgrid[:64, :64, :64] - 32) * 3.0
    write_volume("results/map/map.mrc", 1 / (1 + np.exp((np.sqrt((z / 80) ** 2 + (y / 40) ** 2 + (x / 40) ** 2) - 1) * 10)), 3.0)


def test_templates_are_projections_with_the_view_they_name(ellipsoid):
    _run(count=20)
    classes = read_table("results/templates/classes.star", "classes")
    images, pixel_size = read_mrc("results/templates/classes.mrcs")
    assert len(images) == len(classes) == 20
    assert pixel_size == pytest.approx(192 / images.shape[-1])
    assert classes["class_image"][2] == "000003@results/templates/classes.mrcs"
    line = (np.arange(images.shape[-1]) - images.shape[-1] // 2) * pixel_size
    weights = np.clip(images, 0.1 * images.max((1, 2), keepdims=True), None) - 0.1 * images.max((1, 2), keepdims=True)
    spread = (weights * (line[:, None] ** 2 + line[None] ** 2)).sum((1, 2)) / weights.sum((1, 2))
    side_on = np.sin(np.deg2rad(classes["tilt"])) ** 2
    assert np.corrcoef(spread, side_on)[0, 1] > 0.99


def test_directions_that_look_the_same_are_left_out(ellipsoid):
    _run(count=60, symmetry="D2")
    assert 11 <= len(read_table("results/templates/classes.star", "classes")) <= 19
