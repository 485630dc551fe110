"""The report is one page that needs nothing else, shows every job, and believes no text to be markup."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from firn.formats.tables import write_table
from firn.report.handover import write_reports
from firn.report.records import final_maps, read_records
from firn.report.session import read_session
from firn.report.spoken import spoken_number, spoken_time
from firn.report.style import new_figure, save

VOID = {"meta", "img", "input", "br", "link"}


def write_job(name: str, job_type: str, seconds: float = 1.0, map_at: float | None = None, **settings: Any) -> Path:
    folder = Path("results") / name
    save(new_figure(1, 1)[0], folder / "figures/slices.png")
    metrics = {"resolution_corrected": {"value": map_at, "unit": "Å"}} if map_at else {"particles": {"value": 12345.0, "unit": ""}}
    if map_at:
        (folder / "map.mrc").write_bytes(b"")
    record = {
        "job": name, "type": job_type, "batch": None, "settings": {"type": job_type, "revision": 1, "seed": 1, **settings}, "inputs": [],
        "versions": {"firn": "0.1.0"}, "seed": 1, "device": "cpu", "threads": 1, "seconds": seconds, "peak_memory_mb": 100.0, "metrics": metrics,
        "figures": [{"file": "figures/slices.png", "title": "Slices", "caption": "Of the map."}], "warnings": [], "batches": [],
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(record), encoding="utf-8")
    return folder / "job.json"


class Balance(HTMLParser):
    """Fails when a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [value for value in [given.get("id")] if value]
        self.links += [value for value in [given.get("href")] if value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    return [
        write_job("stack", "import_particles", file="a/b.star"),
        write_job("start", "ab_initio", particles="stack"),
        write_job("map", "refine_homogeneous", map_at=4.2, particles="stack", volume="start.class_1"),
        write_job("final", "validate_fsc", map_at=3.96, volume="map"),
        write_job("other", "refine_homogeneous", map_at=7.0, volumes=["start", "stack"]),
    ]


def page(jobs: list[Path], **config: Any) -> str:
    write_reports(read_session(jobs, config, {}), Path("results"))
    return Path("results/report.html").read_text(encoding="utf-8")


def figures(text: str) -> int:
    """Pictures of jobs, each in a chapter or in its job's section, where the other place links to it."""
    return text.count("<figcaption>")


def test_the_page_is_well_formed_and_every_link_in_it_leads_somewhere(jobs: list[Path]):
    balance = Balance()
    balance.feed(page(jobs))
    assert balance.open == []
    assert {link.removeprefix("#") for link in balance.links} <= set(balance.ids)
    assert len(balance.ids) == len(set(balance.ids))


def test_the_page_loads_nothing_from_elsewhere(jobs: list[Path]):
    text = page(jobs)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    assert "url(" not in text
    assert "<script" not in text


def test_every_job_has_its_section_its_numbers_and_its_figure(jobs: list[Path]):
    text = page(jobs, title="Night of the long grid")
    assert text.count('class="job"') == len(jobs)
    assert figures(text) == len(jobs)
    assert "Night of the long grid" in text
    assert "12\u202f345" in text
    assert "start.class_1" in text


def test_the_headline_shows_maps_that_no_later_job_made_better(jobs: list[Path]):
    assert [record.name for record in final_maps(read_records(jobs))] == ["final", "other"]
    text = page(jobs)
    headline = text[text.index('id="maps"') : text.index('id="session"')]
    assert "3.96" in headline
    assert "4.20" not in headline


def test_inputs_are_found_in_settings_alone_in_lists_and_as_outputs(jobs: list[Path]):
    upstream = {record.name: record.upstream for record in read_records(jobs)}
    assert upstream == {"stack": (), "start": ("stack",), "map": ("stack", "start"), "final": ("map",), "other": ("start", "stack")}


def test_text_from_files_and_settings_is_never_markup(jobs: list[Path]):
    failed = pd.DataFrame(
        {"exposure_id": ["e1"], "movie": ["<img src=x>.tif"], "reason_code": ["ZERO"], "reason": ["<script>alert(1)</script>"]}
    )
    write_table(jobs[0].parent / "failed.star", failed, "failed")
    text = page([*jobs, write_job("odd", "import_volume", map="<b>&.mrc")], title="<i>A & B</i>")
    assert "<script" not in text
    assert "<img src=x>" not in text
    assert "&lt;i&gt;A &amp; B&lt;/i&gt;" in text
    assert "Failed exposures" in text


def test_a_figure_that_is_gone_is_left_out(jobs: list[Path]):
    (jobs[0].parent / "figures/slices.png").unlink()
    assert figures(page(jobs)) == len(jobs) - 1


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (3599.8, "1 h 00 min")]
)
def test_times_are_spoken(seconds: float, words: str):
    assert spoken_time(seconds) == words


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(12345.0, "", "12\u202f345"), (3.14159, "Å", "3.14 Å"), (0.000123456, "", "0.0001235"), (None, "Å", "–"), (-797.3, "Å²", "-797.3 Å²")],
)
def test_numbers_are_spoken(value: float | None, unit: str, words: str):
    assert spoken_number(value, unit) == words
