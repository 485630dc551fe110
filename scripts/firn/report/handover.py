"""The report that is handed to whoever brought the sample: chapters from what was collected to the versions it was made with."""

import logging
from collections.abc import Callable
from pathlib import Path

from firn.errors import brief
from firn.report.chapters_conduct import conduct_chapter, events_chapter, settings_chapter, summary_chapter
from firn.report.chapters_exposures import collected_chapter, micrograph_chapter, verdict_chapter
from firn.report.chapters_maps import class_chapter, map_chapter, picking_chapter, start_chapter
from firn.report.data_sets import DataSet, data_sets
from firn.report.document import Document, Section, Text
from firn.report.html import write_page
from firn.report.methods import Methods, methods_chapter, save_methods, write_methods
from firn.report.pdf import write_pdf
from firn.report.session import Session
from firn.report.summary import write_summary


def write_reports(session: Session, folder: Path) -> list[Path]:
    """Write report.html, report.pdf, methods.txt and summary.txt into a folder; which files these are."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = data_sets(session)
    try:
        methods = write_methods(session, sets)
    except Exception as error:  # said in the report's place of it
        methods = Methods((("", _said("methods", error)),), ())
    document = handover_document(session, sets, methods)
    page, pdf, summary, text = (folder / name for name in ("report.html", "report.pdf", "summary.txt", "methods.txt"))
    write_page(session, document, page)
    write_pdf(document, pdf)
    write_summary(session, summary, [page, pdf])
    save_methods(methods, text)
    return [page, pdf, summary, text]


def handover_document(session: Session, sets: list[DataSet], methods: Methods) -> Document:
    """Every chapter that the session has something for, in the order in which one reads them."""
    chapters = {
        "summary": lambda: summary_chapter(session, sets),
        "collected": lambda: collected_chapter(sets),
        "micrographs": lambda: micrograph_chapter(sets),
        "picking": lambda: picking_chapter(session),
        "classes": lambda: class_chapter(session),
        "starts": lambda: start_chapter(session),
        "maps-in-detail": lambda: map_chapter(session),
        "methods": lambda: methods_chapter(methods),
        "failures": lambda: verdict_chapter(session, sets),
        "events": lambda: events_chapter(session),
        "settings": lambda: settings_chapter(session),
        "conduct": lambda: conduct_chapter(session),
    }
    sections = tuple(section for name, make in chapters.items() if (section := _made(name, make)))
    made = session.records[-1].content["versions"] if session.records else {}
    title = str(session.config.get("title") or "Session")
    return Document(title, "Report of a cryo-EM session", sections, tuple(made.items()))


def _made(anchor: str, make: Callable[[], Section | None]) -> Section | None:
    """A chapter; where a file or a number of it is not as it should be, a chapter that says so, since the others are no worse for it."""
    try:
        return make()
    except Exception as error:  # whatever it is, it is said in the report and in full in the log
        return Section(anchor.replace("-", " ").capitalize(), anchor, (Text(_said(anchor, error), warning=True),))


def _said(what: str, error: Exception) -> str:
    logging.getLogger("firn").exception("report: %s", what)
    return f"This chapter could not be made: {brief(error) or type(error).__name__}"
