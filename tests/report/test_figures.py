"""Figures are drawn from any size of data, and a surface is where the density is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.report.postprocess import draw_fsc, draw_guinier
from firn.report.summaries import SUMMARIES
from firn.report.volumes import draw_slices, draw_surfaces, surface_image, surface_level

TABLE_COLUMNS = ("defocus_u", "defocus_v", "motion_total", "motion_early", "ctf_fit_resolution", "pick_score", "pick_power")


def ball(n: int, radius: float) -> np.ndarray:
    axis = np.arange(n) - n // 2
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    return 1 / (1 + np.exp(distance - radius))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_outline_of_a_balls_surface_is_a_disc_and_its_middle_faces_the_viewer(axis: int):
    image = surface_image(ball(41, 12.0), 0.5, axis)
    assert image[..., 3].sum() == pytest.approx(np.pi * 12**2, rel=0.05)
    assert image[20, 20, 3] == 1
    assert image[0, 0, 3] == 0
    assert image.min() >= 0
    assert image.max() <= 1


def test_the_near_side_is_what_is_seen():
    volume = np.zeros((20, 20, 20))
    volume[15:18, 5:15, 5:15] = 1.0
    volume[2:5, 2:18, 2:18] = 1.0
    image = surface_image(volume, 0.5, axis=0)
    assert image[10, 10, :3].mean() > image[3, 10, :3].mean()


@pytest.mark.parametrize("volume", [np.zeros((12, 12, 12)), ball(13, 3.0), ball(12, 30.0)])
def test_maps_that_are_empty_or_fill_the_box_are_drawn_too(tmp_path: Path, volume: np.ndarray):
    draw_slices(tmp_path / "slices.png", volume, 1.5, mask=volume)
    draw_surfaces(tmp_path / "surface.png", volume, surface_level(volume, volume))
    assert (tmp_path / "slices.png").stat().st_size > 1000
    assert (tmp_path / "surface.png").stat().st_size > 1000


@pytest.mark.parametrize("job_type", sorted(SUMMARIES))
@pytest.mark.parametrize("rows", [1, 2, 900])
def test_summaries_are_drawn_from_one_row_or_many_and_with_gaps(tmp_path: Path, job_type: str, rows: int):
    generator = np.random.default_rng(0)
    table = pd.DataFrame({name: generator.normal(10, 1, rows) for name in TABLE_COLUMNS}).assign(
        exposure_id=[f"e{row % 7}" for row in range(rows)]
    )
    if rows > 2:
        table.loc[1, ["ctf_fit_resolution", "motion_total", "defocus_u"]] = np.nan
    for summary in SUMMARIES[job_type]:
        summary.draw(table, tmp_path / f"{summary.name}.png")
        assert (tmp_path / f"{summary.name}.png").stat().st_size > 1000


def test_curves_without_a_fit_are_drawn(tmp_path: Path):
    table = pd.DataFrame({"frequency": np.linspace(0, 0.3, 9), "corrected": np.linspace(1, 0, 9)})
    draw_fsc(tmp_path / "fsc.png", table, {"corrected": 5.0})
    draw_guinier(tmp_path / "guinier.png", np.linspace(0, 0.09, 9), {"mean": np.linspace(5, 1, 9)}, None, (10.0, 12.0))
    assert (tmp_path / "guinier.png").stat().st_size > 1000
