"""The report that is handed to whoever brought the sample: chapters from what was collected to the versions it was made with."""

from pathlib import Path

from firn.report.chapters_conduct import conduct_chapter, events_chapter, settings_chapter, summary_chapter
from firn.report.chapters_exposures import collected_chapter, micrograph_chapter, verdict_chapter
from firn.report.chapters_maps import class_chapter, map_chapter, picking_chapter, start_chapter
from firn.report.data_sets import DataSet, data_sets
from firn.report.document import Document
from firn.report.html import write_page
from firn.report.methods import Methods, methods_chapter, save_methods, write_methods
from firn.report.pdf import write_pdf
from firn.report.session import Session
from firn.report.summary import write_summary


def write_reports(session: Session, folder: Path) -> list[Path]:
    """Write report.html, report.pdf, methods.txt and summary.txt into a folder; which files these are."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = data_sets(session)
    methods = write_methods(session, sets)
    document = handover_document(session, sets, methods)
    page, pdf, summary, text = (folder / name for name in ("report.html", "report.pdf", "summary.txt", "methods.txt"))
    write_page(session, document, page)
    write_pdf(document, pdf)
    write_summary(session, summary, [page, pdf])
    save_methods(methods, text)
    return [page, pdf, summary, text]


def handover_document(session: Session, sets: list[DataSet], methods: Methods) -> Document:
    """Every chapter that the session has something for, in the order in which one reads them."""
    chapters = (
        summary_chapter(session, sets),
        collected_chapter(sets),
        micrograph_chapter(sets),
        picking_chapter(session),
        class_chapter(session),
        start_chapter(session),
        map_chapter(session),
        methods_chapter(methods),
        verdict_chapter(session, sets),
        events_chapter(session),
        settings_chapter(session),
        conduct_chapter(session),
    )
    made = session.records[-1].content["versions"] if session.records else {}
    title = str(session.config.get("title") or "Session")
    return Document(title, "Report of a cryo-EM session", tuple(each for each in chapters if each), tuple(made.items()))
