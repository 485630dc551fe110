"""Picks of other programs come to their exposures, and what fits none is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import import_picks
from firn.runtime.entry import open_job
from firn.runtime.job import Job

HEIGHT, WIDTH = 90, 121


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four exposures in two batches; the third batch's has no picks."""
    monkeypatch.chdir(tmp_path)
    write_image("mic.mrc", np.random.default_rng(1).normal(size=(HEIGHT, WIDTH)).astype(np.float32), 4.0)
    exposures = pd.DataFrame(
        {
            "exposure_id": ["e1", "e2", "e3", "e4"],
            "batch": ["0001", "0001", "0002", "0003"],
            "movie": [f"raw/m{number}.tiff" for number in range(1, 5)],
            "micrograph": "mic.mrc",
            "width_px": WIDTH,
            "height_px": HEIGHT,
            "micrograph_pixel_size": 4.0,
            "voltage_kv": [300.0, 300.0, 200.0, 300.0],
        }
    )
    write_table("results/ctf/exposures.star", exposures, "exposures")
    Path("picks").mkdir()


def put(**files: str) -> None:
    for name, text in files.items():
        stem, _, ending = name.rpartition("_")
        Path(f"picks/{stem}.{ending}").write_text(text)


def brought(**settings: Any) -> tuple[Job[import_picks.Params], pd.DataFrame]:
    wanted = {"type": "import_picks", "exposures": "ctf", "files": "picks/*"} | settings
    with open_job(import_picks.Params, wanted, {"exposures": ["results/ctf"]}, Path("results/picks"), "picks") as job:
        import_picks.run(job)
    return job, read_table("results/picks/picks.star", "picks", needs=("exposure_id", "x_px", "y_px"))


def test_files_of_several_programs_come_to_their_exposures_in_every_batch() -> None:
    put(m1_box="8 9 64 64\n20 21 64 64\n", m2_autopick_star="data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n50 60\n")
    put(all_txt="image_name\tx_coord\ty_coord\tscore\nm3\t30\t40\t2.5\n")
    job, picks = brought()
    assert picks["exposure_id"].tolist() == ["e1", "e1", "e2", "e3"]
    assert picks[["x_px", "y_px"]].to_numpy().tolist() == [[40, 41], [52, 53], [50, 60], [30, 40]]
    assert picks["voltage_kv"].tolist() == [300, 300, 300, 200]
    assert picks["pick_score"].iloc[3] == 2.5
    assert picks["pick_score"].isna().sum() == 3
    assert picks["particle_id"].is_unique
    assert job.batches == ["0001", "0002", "0003"]
    sizes = [len(read_table(f"results/picks/batches/{batch}/picks.star", "picks")) for batch in job.batches]
    assert sizes == [3, 1, 0]
    assert job.metrics["picks"]["value"] == 4
    assert any("1 of 4 exposures have no picks" in warning for warning in job.warnings)
    assert Path("results/picks/figures/micrographs.png").exists()


def test_without_any_score_there_is_no_column_of_scores_and_a_diameter_only_where_given() -> None:
    put(m1_box="8 9 64 64\n")
    assert not {"pick_score", "diameter"} & set(brought()[1].columns)
    assert brought(diameter=150)[1]["diameter"].tolist() == [150]


def test_coordinates_of_a_smaller_image_are_multiplied_and_rows_counted_from_the_other_edge() -> None:
    put(m1_csv="x,y\n10,0\n10,22\n")
    assert brought(binning=4)[1][["x_px", "y_px"]].to_numpy().tolist() == [[40, 0], [40, 88]]
    assert brought(binning=4, flip_y=True)[1][["x_px", "y_px"]].to_numpy().tolist() == [[40, HEIGHT - 1], [40, HEIGHT - 1 - 88]]


def test_a_picture_upside_down_with_its_picks_is_the_picture() -> None:
    image = np.zeros((HEIGHT, WIDTH))
    image[17, 35] = 1
    row, column = np.argwhere(image[::-1])[0]
    put(m1_csv=f"x,y\n{column},{row}\n")
    picks = brought(flip_y=True)[1]
    assert image[int(picks["y_px"].iloc[0]), int(picks["x_px"].iloc[0])] == 1


def test_picks_outside_their_micrograph_are_refused_and_counted() -> None:
    put(m1_csv=f"x,y\n0,0\n{WIDTH - 1},{HEIGHT - 1}\n{WIDTH},5\n5,{HEIGHT}\n-1,5\nnan,5\n5,inf\n1e300,5\n", m2_csv="x,y\n5,-3\n")
    job, picks = brought(binning=1.0)
    assert picks[["x_px", "y_px"]].to_numpy().tolist() == [[0, 0], [WIDTH - 1, HEIGHT - 1]]
    assert job.metrics["picks outside"]["value"] == 7
    assert any("7 of 9 picks lie outside their micrographs" in warning and "in 2 of them" in warning for warning in job.warnings)


def test_files_that_belong_to_no_exposure_are_listed() -> None:
    put(m1_box="8 9 64 64\n", other_box="8 9 64 64\n", empty_box="")
    job, picks = brought()
    assert picks["exposure_id"].tolist() == ["e1"]
    assert any("2 of 3 files or names" in told and "other.box" in told and "empty.box" in told for told in job.warnings)
    assert job.metrics["micrographs unmatched"]["value"] == 2


def test_files_that_all_belong_to_no_exposure_are_an_error_that_shows_both_names() -> None:
    put(other_box="8 9 64 64\n")
    with pytest.raises(InputError, match=r"none of 1 names fits an exposure; the first is 'other\.box', an exposure is 'raw/m1\.tiff'"):
        brought()


def test_an_exposure_with_picks_in_two_files_is_told() -> None:
    put(m1_box="8 9 64 64\n", m1_autopick_box="9 9 64 64\n")
    job, picks = brought()
    assert len(picks) == 2
    assert any("more than one file" in warning for warning in job.warnings)


def test_a_least_score_refuses_the_others() -> None:
    put(m1_box="8 9 64 64 0.9\n18 9 64 64 0.3\n")
    job, picks = brought(min_score=0.5)
    assert picks["pick_score"].tolist() == [0.9]
    assert job.metrics["picks below min_score"]["value"] == 1


def test_a_least_score_of_picks_without_scores_is_an_error() -> None:
    put(m1_box="8 9 64 64\n")
    with pytest.raises(InputError, match="min_score is given, but the picks have no scores"):
        brought(min_score=0.5)


@pytest.mark.parametrize(("share", "told"), [(0.45, True), (0.95, False)])
def test_picks_that_crowd_in_a_quarter_are_told_to_be_of_smaller_images(share: float, told: bool) -> None:
    places = np.random.default_rng(2).uniform(0, share, (60, 2)) * (WIDTH, HEIGHT)
    put(m1_csv="x,y\n" + "".join(f"{x},{y}\n" for x, y in places))
    assert any("smaller images" in warning for warning in brought()[0].warnings) == told


def test_a_program_that_found_nothing_at_all_is_told() -> None:
    put(m1_box="", m2_box="")
    job, picks = brought()
    assert picks.empty
    assert any("no pick was kept" in warning for warning in job.warnings)
