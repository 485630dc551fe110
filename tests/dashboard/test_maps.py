"""Maps as the dashboard hands them out: which there are, what is said of them, and the density on a coarse grid."""

from pathlib import Path

import numpy as np
import pytest

from firn.dashboard.maps import GRID, fourier_crop
from firn.formats.mrc import write_volume
from firn.live import layout
from served_run import Site, blob, write_job, write_map


def density(site: Site, folder: str, kind: str = "map") -> tuple[np.ndarray, np.ndarray]:
    """(peak, Å per pixel, standard deviation, level; density) as a browser reads them."""
    body = site.get(f"/api/volume?of={folder}&kind={kind}").body
    head, values = np.frombuffer(body[:16], "<f4"), np.frombuffer(body[16:], "<i2")
    n = round(len(values) ** (1 / 3))
    return head, values.reshape(n, n, n) * (head[0] / 32767)


@pytest.mark.parametrize(("n", "m"), [(128, 96), (101, 96), (200, 95), (97, 96)])
def test_a_crop_keeps_every_frequency_that_fits_and_the_origin(n: int, m: int) -> None:
    crop = fourier_crop(n, m)
    at, coarse = (np.arange(n) - n // 2) / n, (np.arange(m) - m // 2) / m
    for frequency in (0, 1, 17, (m - 1) // 2):
        np.testing.assert_allclose(crop @ np.cos(2 * np.pi * frequency * at + 0.3), np.cos(2 * np.pi * frequency * coarse + 0.3), atol=1e-4)
    np.testing.assert_allclose(crop @ np.cos(2 * np.pi * (m // 2 + 1) * at), 0, atol=1e-4)


@pytest.mark.parametrize("n", [40, 41])
def test_a_small_map_comes_as_it_is(site: Site, n: int) -> None:
    volume = blob(n, (6, -4, 2), 3.0)
    write_map(Path("results/final"), volume)
    (peak, spacing, deviation, level), values = density(site, "results/final")
    np.testing.assert_allclose(values, volume, atol=peak / 32767)
    assert (peak, spacing) == (pytest.approx(1, abs=1e-3), 1.5)
    assert deviation == pytest.approx(volume.std(), rel=1e-3)
    assert level == pytest.approx(np.percentile(volume[volume > 0.2 * volume.max()], 70), rel=1e-3)


def test_a_large_map_keeps_its_place_in_angstrom(site: Site) -> None:
    write_map(Path("results/final"), blob(120, (20, -30, 10), 6.0))
    (_, spacing, _, _), values = density(site, "results/final")
    assert values.shape == (GRID, GRID, GRID)
    assert spacing == pytest.approx(1.5 * 120 / GRID)
    peak = np.array(np.unravel_index(values.argmax(), values.shape)) - GRID // 2
    np.testing.assert_allclose(peak * spacing, np.array([20, -30, 10]) * 1.5, atol=spacing / 2 + 1e-6)


def test_maps_of_jobs_rounds_and_classes_are_all_told(site: Site) -> None:
    write_map(Path("results/final"), blob(16, (0, 0, 0), 3))
    write_map(Path("results/stream/rounds/0003"), blob(16, (0, 0, 0), 3))
    write_job(Path("results/sorted"), "classify_3d")
    Path("results/sorted/class_2").mkdir()
    write_volume(Path("results/sorted/class_2/map.mrc"), blob(16, (0, 0, 0), 3), 1.5)
    told = {one["folder"]: one for one in site.get("/api/maps").told}
    assert set(told) == {"results/final", "results/stream/rounds/0003", "results/sorted/class_2"}
    assert (told["results/final"]["resolution"], told["results/final"]["particles"]) == (3.2, 5000)
    assert (told["results/stream/rounds/0003"]["job"], told["results/stream/rounds/0003"]["round"]) == ("stream", "0003")
    assert (told["results/sorted/class_2"]["job"], told["results/sorted/class_2"]["part"]) == ("sorted", "class_2")


def test_beside_a_map_stand_the_figures_of_those_who_judge_it_or_what_it_was_made_from(site: Site) -> None:
    write_map(Path("results/final"), blob(16, (0, 0, 0), 3), particles="keep")
    write_map(Path("results/other"), blob(16, (0, 0, 0), 3), particles="keep")
    write_job(Path("results/fsc"), "validate_fsc", ("fsc",), volume="final")
    write_job(Path("results/views"), "orientation_diagnostics", ("conical_fsc",), volume="final", particles="final")
    write_map(Path("results/sharp"), blob(16, (0, 0, 0), 3), "sharpen", volume="final")
    write_job(Path("results/patterns"), "create_templates", ("templates",), volume="final")
    told = site.get("/api/maps?of=results/sharp").told
    assert told["figures"][0]["job"] == "sharp"
    assert {figure["job"] for figure in told["figures"]} == {"sharp", "final", "fsc", "views"}
    assert {figure["job"] for figure in site.get("/api/maps?of=results/other").told["figures"]} == {"other"}
    assert (told["side"], told["pixel_size"], told["kinds"]) == (16, 1.5, ["map", "mask"])


def test_rounds_are_told_with_particles_time_and_resolution(site: Site) -> None:
    write_map(Path("results/stream/rounds/0002"), blob(16, (0, 0, 0), 3))
    head = "role,job,round,state,finished,particles,kept,resolution,folder"
    rows = [
        f"refine,stream,{number},done,{1000 + number},{500 * number},,{9 - number},results/stream/rounds/000{number}" for number in (1, 2)
    ]
    layout.ROUNDS.write_text("\n".join([head, *rows]) + "\n")
    told = site.get("/api/maps?of=results/stream/rounds/0002").told["rounds"]
    assert [(entry["particles"], entry["finished"], entry["resolution"]) for entry in told] == [(500, 1001, 8), (1000, 1002, 7)]


def test_what_is_no_map_of_the_run_is_not_drawn(site: Site, run_folder: Path) -> None:
    write_volume(run_folder.parent / "elsewhere.mrc", blob(16, (0, 0, 0), 3), 1.5)
    write_map(Path("results/final"), blob(16, (0, 0, 0), 3))
    Path("results/final/mask.mrc").unlink()
    Path("results/final/mask.mrc").symlink_to(run_folder.parent / "elsewhere.mrc")
    Path("results/linked").mkdir()
    Path("results/linked/map.mrc").symlink_to(run_folder.parent / "elsewhere.mrc")
    assert [one["folder"] for one in site.get("/api/maps").told] == ["results/final"]
    for query in (
        "of=results/linked",
        "of=results",
        "of=../night",
        "of=results/final&kind=mask",
        "of=results/final&kind=../map.mrc",
        "kind=map",
    ):
        assert site.get(f"/api/volume?{query}").status == 404
    write_volume(Path("results/final/map.mrc"), np.ones((4, 6, 8), np.float32), 1.5)
    assert site.get("/api/volume?of=results/final").status == 400
