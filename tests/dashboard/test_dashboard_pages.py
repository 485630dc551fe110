"""What the pages and their data tell of a run folder."""

import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from firn.dashboard.gate import Gate
from firn.dashboard.pages import PAGES
from firn.formats.mrc import write_stack
from firn.formats.tables import read_table, write_table
from firn.live import layout
from served_run import Site, write_classes, write_job, write_live


@pytest.mark.parametrize("page", list(PAGES))
def test_every_page_is_there_and_all_that_it_loads(site: Site, page: str) -> None:
    text = site.get(f"/{page}").body.decode()
    loaded = [part.split('"')[0] for part in text.replace("href=", "src=").split('src="')[1:]]
    for address in (one for one in loaded if not one.startswith("data:")):
        assert site.get(address).status == 200
    assert "http://" not in text
    assert "<script>" not in text


def test_the_name_of_a_run_is_no_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "<b>run & co"
    folder.mkdir()
    monkeypatch.chdir(folder)
    site = Site(Gate())
    try:
        assert b"<b>" not in site.get("/").body
        assert site.get("/api/session").status == 404
        assert site.get("/api/exposures").told["rows"] == []
        assert site.get("/api/jobs").told["jobs"] == []
    finally:
        site.close()


def test_what_was_read_before_is_not_sent_again(site: Site) -> None:
    first = site.get("/api/exposures")
    again = site.get("/api/exposures", **{"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    write_live(5)
    changed = site.get("/api/exposures", **{"If-None-Match": first.headers["etag"]})
    assert len(changed.told["rows"]) == 5


def test_only_new_points_are_sent_and_all_of_them_when_old_ones_changed(site: Site) -> None:
    first = site.get("/api/points").told
    assert (first["start"], first["count"], len(first["fresh"])) == (0, 3, 3)
    known = f"/api/points?count=3&digest={first['digest']}"
    assert site.get(known).told["fresh"] == []
    page = layout.LIVE / "session.html"
    text = page.read_text()
    page.write_text(text.replace("];\n", ',\n[1,2,"shot_009",0,""]];\n', 1))
    assert [point[2] for point in site.get(known).told["fresh"]] == ["shot_009"]
    page.write_text(text.replace("shot_000", "shot_777"))
    assert site.get(known).told["start"] == 0
    for odd in ("count=-1", "count=x", "count=99&digest=" + first["digest"], "count=3&digest=no"):
        assert site.get(f"/api/points?{odd}").told["start"] == 0


def test_one_exposure_is_told_with_its_numbers_and_figures(site: Site) -> None:
    told = site.get("/api/exposure?id=e001").told
    assert told["row"]["movie"] == "raw/a b/shot_001.tif"
    assert [figure["file"] for figure in told["figures"]] == ["results/pre/batches/0001/figures/ctf_e001.png"]
    assert site.get("/file/" + told["figures"][0]["file"]).body.startswith(b"\x89PNG")
    assert site.get("/api/exposure?id=nobody").status == 404


def test_a_table_cannot_make_the_dashboard_read_a_picture_elsewhere(site: Site, run_folder: Path) -> None:
    Image.new("L", (9, 9), 200).save(run_folder.parent / "outside.png")
    row = {"exposure_id": ["e001"], "batch": ["0001"], "width_px": [9], "height_px": [9], "micrograph": ["m.mrc"]}
    table = pd.DataFrame(
        row | {"thumbnail": [str(run_folder.parent / "outside.png")], "optics_name": ["o"], "micrograph_pixel_size": [1.0]}
    )
    write_table(run_folder / "results" / "pre" / "batches" / "0001" / "exposures.star", table, "exposures")
    assert site.get("/api/exposure?id=e001").told["picture"] == {}
    figure = run_folder / "results" / "pre" / "batches" / "0001" / "figures" / "ctf_e001.png"
    figure.unlink()
    figure.symlink_to(run_folder.parent / "outside.png")
    assert site.get("/api/exposure?id=e001").told["figures"] == []


def test_classes_are_told_with_their_tiles_in_the_order_of_the_table(site: Site, run_folder: Path) -> None:
    write_classes(run_folder / "results" / "class2d", "classify_2d")
    write_classes(run_folder / "results" / "keep", "select_2d", kept=[1, 3])
    assert {one["folder"] for one in site.get("/api/classes").told} == {"results/class2d", "results/keep"}
    told = site.get("/api/classes?of=results/keep").told
    assert [one["class_count"] for one in told["classes"]] == [40, 30, 20, 10]
    with Image.open(io.BytesIO(site.get("/api/tiles?of=results/keep").body)) as sheet:
        tiles = np.asarray(sheet)
    assert tiles.shape == (told["tile"], told["across"] * told["tile"])
    assert (tiles[:, : 4 * told["tile"]].std() > 20) & (tiles[:, 4 * told["tile"] :].max() == 0)


def test_a_class_without_an_average_has_neither_resolution_nor_ess(site: Site, run_folder: Path) -> None:
    folder = run_folder / "results" / "class2d"
    write_classes(folder, "classify_2d")
    table = read_table(folder / "classes.star", "classes")
    write_table(folder / "classes.star", table.assign(class_gain=[30.0, 20.0, 10.0, 0.0]), "classes")
    *others, last = site.get("/api/classes?of=results/class2d").told["classes"]
    assert all(one["class_resolution"] == 8.0 and one["class_ess"] == 1.5 for one in others)
    assert (last["class_count"], "class_resolution" in last, "class_ess" in last) == (10, False, False)


def test_a_bright_spot_high_in_a_class_is_drawn_high(site: Site, run_folder: Path) -> None:
    write_classes(run_folder / "results" / "class2d", "classify_2d")
    averages = np.zeros((4, 12, 12), np.float32)
    averages[0, 9, 2] = 1
    write_stack(run_folder / "results" / "class2d" / "classes.mrcs", averages, 3.0)
    with Image.open(io.BytesIO(site.get("/api/tiles?of=results/class2d").body)) as sheet:
        tile = np.asarray(sheet)[:160, :160]
    row, column = np.unravel_index(tile.argmax(), tile.shape)
    assert (row < 60) & (column < 60)


def test_jobs_are_told_with_their_state(site: Site, run_folder: Path) -> None:
    write_classes(run_folder / "results" / "class2d", "classify_2d")
    (run_folder / "logs").mkdir()
    (run_folder / "logs" / "map.log").write_text("working")
    jobs = {job["name"]: job for job in site.get("/api/jobs").told["jobs"]}
    assert {name: job["state"] for name, job in jobs.items()} == {"class2d": "done", "pre": "in parts", "map": "not finished"}
    assert jobs["pre"]["settings"] == {"box": 9}
    assert site.get("/file/" + jobs["map"]["logs"][0]).body == b"working"


def test_a_job_at_work_is_told_with_how_far_it_came_and_the_end_of_its_log(site: Site, run_folder: Path) -> None:
    (run_folder / "logs").mkdir()
    (run_folder / "results" / ".map.partial").mkdir()
    (run_folder / "logs" / "map.log").write_text("a first line\n" * 2000 + "the last line")
    (run_folder / "logs" / "map.jsonl").write_text(
        '{"step": "iteration", "done": 6, "of": 20}\n{"step": "iteration", "done": 7, "of": 20}\n{"resolution": 9.1}\n{"cut sh'
    )
    jobs = {job["name"]: job for job in site.get("/api/jobs").told["jobs"]}
    assert (jobs["map"]["state"], jobs["map"]["progress"]) == ("at work", "iteration 7 of 20")
    assert jobs["pre"]["state"] == "in parts"
    (run_folder / "results" / "pre" / "batches" / ".0002.partial").mkdir()
    assert {job["name"]: job["state"] for job in site.get("/api/jobs").told["jobs"]}["pre"] == "at work"
    told = site.get("/api/log?of=map").told
    lines = told["tail"].splitlines()
    assert (told["path"], lines[0], lines[-1]) == ("logs/map.log", "a first line", "the last line")
    assert len(lines) < 600
    (run_folder / "logs" / "map.log").unlink()
    (run_folder / "logs" / "map.log").symlink_to(run_folder.parent / "outside.txt")
    for name in ("map", "nobody", "../../outside", "*", ""):
        assert site.get(f"/api/log?of={name}").told == {"path": "", "tail": ""}


def test_jobs_are_placed_below_what_they_were_made_from(site: Site) -> None:
    write_job(Path("results/a"), "import_particles")
    write_job(Path("results/b"), "refine_homogeneous", particles="a")
    write_job(Path("results/c"), "sharpen", volume="b.volume")
    jobs = {job["name"]: job for job in site.get("/api/jobs").told["jobs"]}
    assert [jobs[name]["row"] for name in "abc"] == [0, 1, 2]
    assert (jobs["c"]["upstream"], jobs["a"]["upstream"]) == (["b"], [])
    write_job(Path("results/d"), "refine_local", volume="e")
    write_job(Path("results/e"), "refine_local", volume="d")
    assert len(site.get("/api/jobs").told["jobs"]) == 6


def test_a_damaged_file_is_one_sentence(site: Site, run_folder: Path) -> None:
    (layout.LIVE / "session.html").write_text("cut short")
    reply = site.get("/api/session")
    assert (reply.status, "session.html" in reply.told["error"]) == (400, True)
    (run_folder / "results" / "pre" / "batches" / "0001" / "job.json").write_text("{")
    assert site.get("/api/jobs").status == 200
    assert site.get("/api/exposure?id=e001").status == 200


def test_long_answers_are_packed_for_those_who_can_unpack(site: Site) -> None:
    plain, packed = site.get("/static/session_page.js"), site.get("/static/session_page.js", **{"Accept-Encoding": "gzip, br"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
