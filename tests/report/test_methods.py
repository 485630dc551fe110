"""The methods section says what the records say, cites what it uses, and uses what it cites."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from firn.report.citations import CITATIONS
from firn.report.data_sets import data_sets
from firn.report.method_sentences import SENTENCES, SILENT, Step, sentences_of
from firn.report.methods import Methods, methods_text, write_methods
from firn.report.records import read_records
from firn.report.session import Session, read_session
from reported_run import EXPOSURES, RESOLUTIONS, write_record, write_run

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "config/schema.json").read_text(encoding="utf-8"))
MOVIE_SETTINGS = {
    "motion_max_align_resolution": 5.0,
    "motion_dose_weighting": True,
    "local_motion": True,
    "ctf_model": "fit",
    "ctf_surface": True,
}


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    return write_run()


def completed(path: Path, **more: object) -> None:
    """Give a record the parameters that the config would have given it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    defaults = {name: field["default"] for name, field in SCHEMA["$defs"][content["type"]]["properties"].items() if "default" in field}
    content["settings"] = defaults | content["settings"] | more
    path.write_text(json.dumps(content), encoding="utf-8")


def methods_of(records: list[Path], **config: object) -> tuple[Session, Methods]:
    for path in records:
        completed(path)
    session = read_session(records, config, SCHEMA)
    return session, write_methods(session, data_sets(session))


def test_the_numbers_are_those_of_the_jobs(records: list[Path]):
    _, methods = methods_of(records, about={"microscope": "Titan Krios", "detector": "Falcon 4i"})
    text = methods_text(methods)
    assert f"{EXPOSURES} movies were collected on a Titan Krios with a Falcon 4i at 300 kV (Cs 2.7 mm) with a pixel size of 1.5 Å" in text
    assert "a total dose of 50.0 e/Å² and 40 frames each" in text
    assert f"{EXPOSURES - 1} exposures were kept and 1 rejected (CTF fit resolution at most 5.9 Å)" in text
    assert "blobs of 12–18 Å (60 picks)" in text
    assert "4 2D classes" in text
    assert "kept 40 particles and left out 20" in text
    assert (
        f"40 particles were refined homogeneously with D7 symmetry in two independent halves, from a reference low-passed to 30 Å, to {RESOLUTIONS['resolution_corrected']:.2f} Å"
        in text
    )


def test_references_are_numbered_as_they_come_and_each_is_cited_and_has_its_doi(records: list[Path]):
    _, methods = methods_of(records)
    body = " ".join(text for _, text in methods.paragraphs)
    marks = [int(number) for group in re.findall(r"\[([0-9, ]+)\]", body) for number in group.split(",")]
    assert list(dict.fromkeys(marks)) == list(range(1, len(methods.references) + 1))
    assert [int(re.match(r"\[(\d+)\]", line)[1]) for line in methods.references] == list(range(1, len(methods.references) + 1))
    assert all(re.search(r"doi:10\.\d{4,5}/\S+$", line) for line in methods.references)


def test_a_paper_is_cited_only_when_its_method_was_used(records: list[Path]):
    _, plain = methods_of(records)
    assert not any("Non-uniform" in line for line in plain.references)
    completed(records[1], motion_dose_weighting=False)
    text = records[-1].read_text(encoding="utf-8").replace("refine_homogeneous", "refine_nonuniform")
    records[-1].write_text(text, encoding="utf-8")
    session = read_session(records, {}, SCHEMA)
    methods = write_methods(session, data_sets(session))
    assert any("Non-uniform" in line for line in methods.references)
    assert not any("optimal exposure" in line for line in methods.references)
    assert "without dose weights" in methods_text(methods)


def test_jobs_that_did_not_lead_to_a_map_are_left_out_and_what_maps_share_is_said_once(records: list[Path]):
    records.append(write_record("aside", "ab_initio", {"particles": (7, "")}, (), particles="keep", symmetry="C3"))
    _, one = methods_of(records)
    assert "C3" not in methods_text(one)
    other = json.loads(records[-2].read_text(encoding="utf-8")) | {"job": "second"}
    Path("results/second").mkdir()
    Path("results/second/map.mrc").write_bytes(Path("results/map/map.mrc").read_bytes())
    Path("results/second/job.json").write_text(json.dumps(other), encoding="utf-8")
    _, two = methods_of([*records, Path("results/second/job.json")])
    assert [title for title, _ in two.paragraphs] == ["", "Map map", "Map second", ""]
    assert methods_text(two).count("movies were collected") == 1


def test_a_session_without_a_map_tells_what_was_done(records: list[Path]):
    _, methods = methods_of(records[:5])
    assert "were extracted in boxes of 32 pixels" in methods_text(methods)


@pytest.mark.parametrize("job_type", sorted(SENTENCES))
def test_a_job_that_recorded_no_numbers_still_has_its_sentence(job_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    fields = SCHEMA["$defs"][job_type]["properties"]
    required = {name: 10.0 for name in SCHEMA["$defs"][job_type].get("required", []) if "slot" not in fields[name]}
    path = write_record("one", job_type, {}, (), **required)
    completed(path)
    for sentence in sentences_of(Step(read_records([path])[0], pd.DataFrame(), {}, frozenset({"particles"}))):
        assert sentence.text.endswith(".")
        assert sentence.text[0].isupper() or sentence.text[0].isdigit()
        assert "None" not in sentence.text
        assert set(sentence.cites) <= set(CITATIONS)


def test_sentences_are_of_job_types_that_there_are():
    assert set(SENTENCES) | set(SILENT) <= set(SCHEMA["$defs"]) | {"export_deposition"}


def test_every_paper_is_used_by_some_sentence():
    source = (Path(__file__).resolve().parents[2] / "scripts/firn/report/method_sentences.py").read_text(encoding="utf-8")
    assert [key for key in CITATIONS if f'"{key}"' not in source] == ["molder2021"]
