"""The fused worker gives the numbers of the single job types, and one bad movie never stops the batch."""

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.families import fused as fused_worker
from firn.formats.mrc import read_mrc
from firn.formats.tables import read_table, write_table
from firn.jobs import blob_picker, extract_particles, import_movies, inspect_picks, patch_ctf, patch_motion, preprocess, simulate_movies
from firn.runtime.entry import open_job
from firn.runtime.job import Job

BATCH = "0001"
SESSION = {
    "movies": 3, "dirty": 0, "size_px": 320, "frames": 6, "pixel_size": 4.0, "particles_per_movie": 10, "tilt": 0.0,
    "defocus_min": 12000, "defocus_max": 20000, "phantom_radius": 70, "seed": 5,
}  # fmt: skip
MOTION = {"max_align_resolution": 10.0}
CTF = {"max_resolution": 9.0, "min_resolution": 40.0, "tile_px": 128}
BLOBS = {"min_diameter": 130, "max_diameter": 160}
BOX = {"box_px": 60, "crop_to_px": 40}


def run(kind: Any, settings: dict[str, Any], inputs: dict[str, str], home: str, batch: str | None = BATCH) -> Job:
    """One job; all share a name, since chance is drawn from it."""
    given = {slot: [folder] for slot, folder in inputs.items()}
    slots = dict.fromkeys(inputs, "x")
    with open_job(kind.Params, slots | settings | {"seed": 5}, given, Path(home), "same", batch, threads=1) as job:
        kind.run(job)
    return job


def fused(home: str, movies: str = "results/movies", **settings: Any) -> Job:
    given = {f"motion_{k}": v for k, v in MOTION.items()} | {f"ctf_{k}": v for k, v in CTF.items()}
    given |= {f"blob_{k}": v for k, v in BLOBS.items()} | {f"extract_{k}": v for k, v in BOX.items()}
    return run(preprocess, given | settings, {"exposures": f"{movies}/batches/{BATCH}"}, home)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(simulate_movies, SESSION, {}, "results/sim", None)
        run(import_movies, {}, {"source": "results/sim"}, "results/movies", None)
        run(patch_motion, MOTION, {"exposures": f"results/movies/batches/{BATCH}"}, "results/motion")
        run(patch_ctf, CTF, {"exposures": "results/motion"}, "results/ctf")
        run(blob_picker, BLOBS, {"exposures": "results/ctf"}, "results/blobs")
        run(inspect_picks, {}, {"exposures": "results/ctf", "picks": "results/blobs"}, "results/picks", None)
        run(extract_particles, BOX, {"exposures": "results/ctf", "picks": "results/picks"}, "results/stack")
        fused("results/fused")
    return folder


@pytest.fixture(autouse=True)
def in_session(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(session)


def same_numbers(first: pd.DataFrame, second: pd.DataFrame) -> None:
    """Columns of the first are in the second with equal values; paths differ by their folder only."""
    assert len(first) == len(second) > 0
    for name in first.columns:
        if pd.api.types.is_numeric_dtype(first[name]):
            np.testing.assert_allclose(second[name].to_numpy(float), first[name].to_numpy(float), rtol=1e-6, atol=1e-4, err_msg=name)
        else:
            assert [str(v).rsplit("/", 1)[-1] for v in first[name]] == [str(v).rsplit("/", 1)[-1] for v in second[name]], name


def test_exposures_and_picks_and_particles_are_those_of_the_single_jobs() -> None:
    same_numbers(read_table("results/ctf/exposures.star", "exposures"), read_table("results/fused/exposures.star", "exposures"))
    same_numbers(read_table("results/picks/picks.star", "picks"), read_table("results/fused/picks.star", "picks"))
    same_numbers(read_table("results/stack/particles.star", "particles"), read_table("results/fused/particles.star", "particles"))


def test_micrographs_and_stacks_are_the_same_bit_for_bit() -> None:
    for single, both in (("motion", "micrographs"), ("stack", "particles")):
        files = sorted(Path(f"results/{single}/{both}").iterdir())
        assert files
        for path in files:
            np.testing.assert_array_equal(read_mrc(path)[0], read_mrc(f"results/fused/{both}/{path.name}")[0])


def test_a_movie_that_cannot_be_decoded_is_listed_and_the_rest_is_processed() -> None:
    movies = read_table(f"results/movies/batches/{BATCH}/exposures.star", "exposures")
    Path("broken.tif").write_bytes(b"no movie")
    broken = movies.assign(movie=["broken.tif", *movies["movie"][1:]])
    write_table(f"results/other/batches/{BATCH}/exposures.star", broken, "exposures")
    job = fused("results/partly", movies="results/other")
    failed = read_table("results/partly/failed.star", "failed")
    assert list(failed["exposure_id"]) == [movies["exposure_id"].iloc[0]]
    assert "broken.tif" in failed["reason"].iloc[0]
    whole = read_table("results/fused/particles.star", "particles")
    expected = whole[whole["exposure_id"] != movies["exposure_id"].iloc[0]]
    found = read_table("results/partly/particles.star", "particles")
    assert set(found["exposure_id"]) == set(expected["exposure_id"])
    assert "1 of 3 movies cannot be used" in job.warnings[-1]


def test_every_exposure_has_its_times_and_a_thumbnail() -> None:
    exposures = read_table("results/fused/exposures.star", "exposures")
    for stage in ("read", "motion", "ctf", "pick", "extract"):
        assert (exposures[f"seconds_{stage}"].astype(float) >= 0).all()
    for path in exposures["thumbnail"]:
        assert max(matplotlib.image.imread(path).shape[:2]) == 320


def test_micrographs_that_memory_does_not_hold_are_read_again_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firn.families.fused.HELD_BYTES", 500_000)
    fused("results/reread")
    same_numbers(read_table("results/fused/particles.star", "particles"), read_table("results/reread/particles.star", "particles"))
    for path in Path("results/fused/particles").iterdir():
        np.testing.assert_array_equal(read_mrc(path)[0], read_mrc(f"results/reread/particles/{path.name}")[0])


def test_half_precision_images_give_what_their_files_hold() -> None:
    run(patch_motion, MOTION | {"float16": True}, {"exposures": f"results/movies/batches/{BATCH}"}, "results/motion16")
    run(patch_ctf, CTF, {"exposures": "results/motion16"}, "results/ctf16")
    fused("results/fused16", motion_float16=True)
    same_numbers(read_table("results/ctf16/exposures.star", "exposures"), read_table("results/fused16/exposures.star", "exposures"))


def test_a_step_s_own_rules_hold_and_name_the_parameter() -> None:
    with pytest.raises(InputError, match="smaller than min_diameter"):
        fused("results/bad", blob_max_diameter=100)
    with pytest.raises(InputError, match="min_diameter"):
        fused("results/bad", blob_min_diameter=None)


def made_once(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """From now on the named steps of the fused worker are an error."""

    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("a step was made again")

    for name in names:
        monkeypatch.setattr(fused_worker, name, refuse)


def test_another_picker_picks_in_the_images_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"blob_min_diameter": 110, "blob_max_diameter": 140}
    fused("results/fresh", **others)
    fused("results/changed")
    before = Path("results/changed/exposures.star").read_bytes()
    made_once(monkeypatch, "correct_counts", "fit_exposure", "read_counts")
    Path("results/changed/job.json").unlink()
    job = fused("results/changed", **others)
    for kind in ("exposures", "picks", "particles"):
        fresh, again = (read_table(f"results/{name}/{kind}.star", kind) for name in ("fresh", "changed"))
        same_numbers(fresh[[name for name in fresh.columns if not name.startswith("seconds_")]], again)
    former = read_table("results/fused/picks.star", "picks")
    assert list(former["x_px"]) != list(read_table("results/changed/picks.star", "picks")["x_px"])
    assert before != b""
    assert all((Path("results/changed") / figure["file"]).exists() for figure in job.figures)
    assert {figure["file"] for figure in fused("results/fresh").figures} == {figure["file"] for figure in job.figures}
    with pytest.raises(AssertionError):
        fused("results/changed", motion_max_align_resolution=20.0)


def test_other_limits_need_no_picking(monkeypatch: pytest.MonkeyPatch) -> None:
    fused("results/limited")
    picks = read_table("results/limited/picks.star", "picks")
    least = float(picks["pick_score"].median())
    made_once(monkeypatch, "correct_counts", "fit_exposure", "read_counts", "pick_blobs")
    fused("results/limited", limit_min_ncc=least, limit_max_power=1e9)
    again = read_table("results/limited/picks.star", "picks")
    (path,) = Path("results/limited").glob("maxima_*.star")
    maxima = read_table(path, "picks")
    assert 0 < len(again) < len(maxima)
    assert again["pick_score"].min() >= least
    assert set(picks.loc[picks["pick_score"] >= least, "particle_id"]) <= set(again["particle_id"])
    same_numbers(again[["exposure_id", "x_px", "y_px"]], maxima[maxima["pick_score"] >= least])


def test_a_folder_that_was_half_replaced_misleads_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    fused("results/half")
    path = Path("results/half/exposures.star")
    path.write_text(path.read_text().replace("# version", "# Version", 1))
    made_once(monkeypatch, "correct_counts")
    with pytest.raises(AssertionError):
        fused("results/half")


def test_an_image_that_is_gone_is_made_again() -> None:
    fused("results/compacted")
    row = read_table("results/compacted/exposures.star", "exposures").iloc[1]
    Path(row["micrograph"]).unlink()
    fused("results/compacted", blob_max_diameter=170)
    assert read_mrc(row["micrograph"])[0].shape == read_mrc("results/fused/" + row["micrograph"].partition("compacted/")[2])[0].shape
    assert len(read_table("results/compacted/exposures.star", "exposures")) == SESSION["movies"]
