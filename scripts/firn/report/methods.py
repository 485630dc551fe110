"""The methods section of a session: what was done on the way to its maps, in sentences with numbers and references, from the jobs' records."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from firn.report.citations import CITATIONS
from firn.report.data_sets import DataSet
from firn.report.document import Block, Heading, Section, Text
from firn.report.method_sentences import Sentence, Step, sentences_of
from firn.report.records import JobRecord, named_jobs
from firn.report.session import Session

MEASURES = ("local_resolution", "orientation_diagnostics", "local_filter")


@dataclass(frozen=True)
class Methods:
    """Paragraphs with numbered references, each with a title or none, and the references in their order."""

    paragraphs: tuple[tuple[str, str], ...]
    references: tuple[str, ...]


def write_methods(session: Session, sets: list[DataSet]) -> Methods:
    """A paragraph of what all maps have in common, and one of each map where there are several; of all jobs where there is no map yet."""
    ways = [_way(session, final) for final in session.finals] or [list(session.records)]
    shared = [record for record in ways[0] if all(record in way for way in ways[1:])]
    parts = [("", shared)] + [
        (f"Map {final.name}", [each for each in way if each not in shared]) for final, way in zip(session.finals, ways, strict=False)
    ]
    readers = [record for record in session.records if any(record in way for way in ways)]
    numbers: dict[str, int] = {}
    paragraphs = []
    for title, records in parts:
        sentences = [sentence for record in records for sentence in sentences_of(_step(session, sets, record, readers))]
        if sentences:
            paragraphs.append((title, " ".join(_referenced(sentence, numbers) for sentence in sentences)))
    paragraphs.append(("", _referenced(_software(session), numbers)))
    return Methods(tuple(paragraphs), tuple(f"[{number}] {CITATIONS[key]}" for key, number in numbers.items()))


def methods_text(methods: Methods) -> str:
    """The methods section as plain text."""
    paragraphs = [f"{title}. {text}" if title else text for title, text in methods.paragraphs]
    return "\n\n".join(["Methods", *paragraphs, "References", "\n".join(methods.references)]) + "\n"


def methods_chapter(methods: Methods) -> Section:
    """The methods section as a chapter."""
    blocks: list[Block] = []
    for title, text in methods.paragraphs:
        blocks += [Heading(title)] if title else []
        blocks.append(Text(text))
    references: list[Block] = [Heading("References"), *(Text(reference) for reference in methods.references)]
    return Section("Methods", "methods", (*blocks, *references))


def save_methods(methods: Methods, path: Path) -> None:
    """Write methods.txt."""
    path.write_text(methods_text(methods), encoding="utf-8")


def _way(session: Session, final: JobRecord) -> list[JobRecord]:
    """Jobs that led to a map, and those that measured it."""
    line = [*session.ancestors(final.name), final]
    names = {record.name for record in line if record.makes_map}
    return [record for record in session.records if record in line or (record.type in MEASURES and set(record.upstream) & names)]


def _step(session: Session, sets: list[DataSet], record: JobRecord, readers: list[JobRecord]) -> Step:
    data = next((each for each in sets if each.source == record or each.source in session.ancestors(record.name)), None)
    reads = frozenset(slot for other in readers for slot, value in other.content["settings"].items() if record.name in named_jobs(value))
    return Step(record, pd.DataFrame() if data is None else data.exposures, session.config.get("about", {}), reads)


def _software(session: Session) -> Sentence:
    versions = session.records[-1].content["versions"] if session.records else {}
    seeds = sorted({str(record.content["seed"]) for record in session.records})
    others = [f"{name} {versions[key]}" for key, name in (("torch", "PyTorch"), ("snakemake", "Snakemake")) if key in versions]
    with_others = f" with {' and '.join(others)}" if others else ""
    text = f"All steps were done in firn {versions.get('firn', '')}{with_others}, with the seed {', '.join(seeds)}."
    return Sentence(text, ("molder2021",) if "snakemake" in versions else ())


def _referenced(sentence: Sentence, numbers: dict[str, int]) -> str:
    """The sentence with its references before the full stop, numbered as they come up."""
    if not sentence.cites:
        return sentence.text
    for key in sentence.cites:
        numbers.setdefault(key, len(numbers) + 1)
    marks = ", ".join(str(number) for number in sorted({numbers[key] for key in sentence.cites}))
    return re.sub(r"\.$", f" [{marks}].", sentence.text)
