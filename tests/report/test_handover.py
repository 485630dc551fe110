"""What is handed over tells of every exposure, every reason and every setting once; page and PDF say the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pypdf import PdfReader

from firn.report.data_sets import data_sets
from firn.report.document import Document, Facts, Heading, Picture, Section, Table, Text
from firn.report.examples import choose_examples
from firn.report.handover import handover_document, write_reports
from firn.report.methods import Methods
from firn.report.pdf import write_pdf
from firn.report.refine import draw_rounds
from firn.report.session import Session, find_session, read_session
from firn.report.style import new_figure, plt, png_of
from reported_run import EXPOSURES, write_run

SCHEMA = {"$defs": {"refine_homogeneous": {"properties": {"symmetry": {"default": "C1"}, "iterations": {"default": 12}, "volume": {}}}}}
CONFIG = {"title": "Night 12", "about": {"sample": "ferritin", "microscope": "Krios 2"}}


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.chdir(tmp_path)
    return read_session(write_run(), CONFIG, SCHEMA)


def document_of(session: Session) -> Document:
    return handover_document(session, data_sets(session), Methods((), ()))


def section(document: Document, anchor: str) -> Section:
    return next(each for each in document.sections if each.anchor == anchor)


def facts(part: Section) -> dict[str, str]:
    return {name: value for block in part.blocks if isinstance(block, Facts) for name, value in block.rows}


def text_of(path: Path) -> list[str]:
    return [" ".join(page.extract_text().split()) for page in PdfReader(path).pages]


def test_every_exposure_is_kept_rejected_or_failed_and_counted_once(session: Session):
    told = facts(section(document_of(session), "summary"))
    assert told["movies"] == f"{EXPOSURES + 1} exposures found, {EXPOSURES - 1} kept, 1 rejected, 1 failed"
    assert told["sample"] == "ferritin"
    assert "4.12 Å" in told["map"]


def test_measurements_of_all_jobs_meet_in_one_row_per_exposure(session: Session):
    (data,) = data_sets(session)
    table = data.exposures
    assert list(table["exposure_id"]) == list(dict.fromkeys(table["exposure_id"]))
    assert {"motion_total", "defocus", "ctf_fit_resolution", "picks", "verdict"} <= set(table.columns)
    assert table["picks"].iloc[:-1].eq(10).all()
    assert list(table["verdict"]) == ["accepted"] * (EXPOSURES - 1) + ["rejected"]
    assert data.limits == {"ctf_fit_resolution": (None, 5.9)}


def test_examples_are_the_best_the_worst_and_the_rejected_and_none_is_shown_twice(session: Session):
    (data,) = data_sets(session)
    groups, _ = choose_examples(data.exposures)
    shown = [name for group in groups for name in group.rows["exposure_id"]]
    ordered = list(data.exposures["exposure_id"])
    assert len(shown) == len(set(shown))
    assert list(groups[0].rows["exposure_id"]) == ordered[:2]
    assert list(groups[-2].rows["exposure_id"]) == ordered[-3:-1]
    assert list(groups[-1].rows["exposure_id"]) == ordered[-1:]


def test_only_settings_that_differ_from_the_defaults_are_listed_and_no_inputs(session: Session):
    (table,) = [block for block in section(document_of(session), "settings").blocks if isinstance(block, Table)]
    mine = {(job, name): (value, default) for job, name, value, default in table.rows}
    assert mine["map", "symmetry"] == ("D7", "C1")
    assert ("map", "iterations") not in mine
    assert not {("map", "particles"), ("map", "volume"), ("pre", "exposures")} & set(mine)


def test_reasons_of_the_rejected_and_the_failed_stand_in_page_and_pdf(session: Session):
    page, pdf, *_ = write_reports(session, Path("results"))
    html, pages = page.read_text(encoding="utf-8"), text_of(pdf)
    for words in ("above the limit 5.9 Å", "is cut off", "Night 12", "Krios 2", "hole_7.tif", "corrected for the mask"):
        assert words in html
        assert any(words in text for text in pages), words


def test_pages_are_numbered_none_is_empty_and_no_heading_stands_alone_at_the_foot(session: Session):
    _, pdf, *_ = write_reports(session, Path("results"))
    titles = [each.title for each in document_of(session).sections]
    pages = text_of(pdf)
    for number, text in enumerate(pages, 1):
        body = text.replace("firn 0.1.0", "").replace(f"page {number} of {len(pages)}", "").strip()
        assert f"page {number} of {len(pages)}" in text
        assert len(body) > len("Night 12")
        assert not any(body.endswith(title) for title in titles)


def test_the_same_report_has_the_same_bytes(session: Session):
    document = document_of(session)
    for name in ("one", "two"):
        write_pdf(document, Path(name) / "report.pdf")
    assert Path("one/report.pdf").read_bytes() == Path("two/report.pdf").read_bytes()


def test_long_words_many_rows_signs_and_pictures_of_any_shape_fit_into_the_pdf(tmp_path: Path):
    tall, wide = png_of(new_figure(1, 9)[0]), png_of(new_figure(9, 1)[0])
    rows = tuple((f"row {number}", "x" * 300, "<b>&") for number in range(150))
    blocks = (
        Heading("µ ° Å → ² −"),
        Text("w" * 500, warning=True),
        Facts((("<name>", "v" * 400),)),
        Table("Rows", ("a", "b", "c"), rows, (0.2, 0.5, 0.3)),
    )
    pictures = (
        Picture(tall, "tall"),
        Picture(wide, "wide", "", 0.5),
        Picture(tall, "tall 2", "", 0.5),
        Picture(tall, "odd", "", 0.5),
        Heading("last"),
    )
    write_pdf(Document("T", "s", (Section("S", "s", blocks + pictures),)), tmp_path / "report.pdf")
    text = " ".join(text_of(tmp_path / "report.pdf"))
    assert all(f"row {number} " in text for number in range(150))
    assert all(sign in text for sign in "µ°Å→²−")
    assert "<b>&" in text


def test_a_run_under_way_is_told_from_its_batches_and_rounds(session: Session):
    for name in ("good", "map", "picks"):
        shutil.rmtree(Path("results") / name)
    (Path("results/pre/batches/0001/job.json")).write_text(Path("results/pre/job.json").read_text(encoding="utf-8"), encoding="utf-8")
    shutil.move("results/pre/exposures.star", "results/pre/batches/0001/exposures.star")
    shutil.move("results/pre/figures", "results/pre/batches/0001/figures")
    Path("results/pre/job.json").unlink()
    round_folder = Path("results/class2d/rounds/0003")
    round_folder.mkdir(parents=True)
    shutil.move("results/class2d/job.json", round_folder / "job.json")
    found = find_session({}, SCHEMA)
    assert found.partial
    assert [record.name for record in found.records].index("movies") < [record.name for record in found.records].index("pre")
    assert found.record("class2d").folder == round_folder
    (data,) = data_sets(found)
    assert data.exposures["motion_total"].notna().all()
    assert Path("results/report.pdf") in write_reports(found, Path("results"))


def test_alarms_decisions_and_times_of_a_live_session_are_told(session: Session):
    Path("live").mkdir()
    Path("live/alarms.jsonl").write_text(
        json.dumps({"time": 1.7e9, "alarm": "a", "event": "raised", "sentence": "no movie came"}) + '\n{"cut', encoding="utf-8"
    )
    Path("live/decisions.jsonl").write_text(
        json.dumps({"time": 1.7e9, "what": "state", "old": "run", "new": "pause", "reason": "tea"}) + "\n", encoding="utf-8"
    )
    rows = [f"e{number:012x},{1.7e9 + 60 * number}" for number in range(1, EXPOSURES + 1)]
    Path("live/exposures.csv").write_text("exposure_id,time_found\n" + "\n".join(rows) + "\n", encoding="utf-8")
    document = document_of(session)
    told = [row for block in section(document, "events").blocks if isinstance(block, Table) for row in block.rows]
    assert any("no movie came" in row for row in told)
    assert any("run → pause" in row and "tea" in row for row in told)
    assert facts(section(document, "collected"))["collected"].startswith("2023-11-14 22:14 UTC")


def test_a_round_is_told_as_made_from_what_its_first_round_and_its_plan_name(session: Session):
    content = json.loads(Path("results/map/job.json").read_text(encoding="utf-8"))
    for number, volume in (("0001", "results/start"), ("0002", "results/map/rounds/0001")):
        folder = Path("results/map/rounds") / number
        folder.mkdir(parents=True)
        shutil.copy("results/map/map.mrc", folder)
        settings = content["settings"] | {"volume": volume, "particles": f"results/map/rounds/.{number}.input"}
        (folder / "job.json").write_text(json.dumps(content | {"settings": settings}), encoding="utf-8")
    Path("results/map/job.json").unlink()
    Path("live/rounds/map").mkdir(parents=True)
    Path("live/rounds/map/0002.json").write_text(json.dumps({"sources": {"keep": {"0001": []}}}), encoding="utf-8")
    found = find_session({}, SCHEMA)
    assert set(found.record("map").upstream) == {"start", "keep"}
    assert [final.folder for final in found.finals] == [Path("results/map/rounds/0002")]
    assert {"movies", "good", "class2d"} <= {record.name for record in found.ancestors("map")}


def test_rounds_on_the_line_of_a_b_factor_show_that_b_factor(session: Session):
    particles, b_factor = np.array([500.0, 1000.0, 4000.0]), 120.0
    resolutions = (2 / b_factor * np.log(particles) - 0.09) ** -0.5
    figure = draw_rounds(particles, resolutions)
    assert figure.axes[0].get_legend().get_texts()[0].get_text() == "B = 120 Å²"
    plt.close(figure)
    Path("live").mkdir()
    lines = [
        f"map,refine,{number},done,{count:.0f},{d:.3f}" for number, (count, d) in enumerate(zip(particles, resolutions, strict=True), 1)
    ]
    Path("live/rounds.csv").write_text("job,role,round,state,particles,resolution\n" + "\n".join(lines) + "\n", encoding="utf-8")
    blocks = section(document_of(session), "maps-in-detail").blocks
    assert any(isinstance(block, Picture) and "Resolution by particles" in block.title for block in blocks)
    (table,) = [block for block in blocks if isinstance(block, Table)]
    assert [row[2] for row in table.rows] == ["500", "1\u202f000", "4\u202f000"]


def test_a_chapter_that_cannot_be_made_says_so_and_the_others_stand(session: Session, caplog: pytest.LogCaptureFixture):
    for path in Path("results/pre/batches/0001/micrographs").iterdir():
        path.write_bytes(b"no image")
    document = document_of(session)
    (block,) = section(document, "micrographs").blocks
    assert isinstance(block, Text)
    assert block.warning
    assert "could not be made" in block.text
    assert "Traceback" in caplog.text
    assert facts(section(document, "summary"))["movies"].startswith("8 exposures")
