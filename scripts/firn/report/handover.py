"""The report that is handed to whoever brought the sample: chapters from what was collected to the versions it was made with."""

from pathlib import Path

from firn.report.chapters_conduct import conduct_chapter, events_chapter, settings_chapter, summary_chapter
from firn.report.chapters_exposures import collected_chapter, micrograph_chapter, verdict_chapter
from firn.report.chapters_maps import class_chapter, map_chapter, picking_chapter, start_chapter
from firn.report.data_sets import data_sets
from firn.report.document import Document
from firn.report.html import write_page
from firn.report.pdf import write_pdf
from firn.report.session import Session
from firn.report.summary import write_summary


def write_reports(session: Session, folder: Path) -> list[Path]:
    """Write report.html, report.pdf and summary.txt into a folder; which files these are."""
    folder.mkdir(parents=True, exist_ok=True)
    document = handover_document(session)
    page, pdf, summary = folder / "report.html", folder / "report.pdf", folder / "summary.txt"
    write_page(session, document, page)
    write_pdf(document, pdf)
    write_summary(session, summary, [page, pdf])
    return [page, pdf, summary]


def handover_document(session: Session) -> Document:
    """Every chapter that the session has something for, in the order in which one reads them."""
    sets = data_sets(session)
    chapters = (
        summary_chapter(session, sets),
        collected_chapter(sets),
        micrograph_chapter(sets),
        picking_chapter(session),
        class_chapter(session),
        start_chapter(session),
        map_chapter(session),
        verdict_chapter(session, sets),
        events_chapter(session),
        settings_chapter(session),
        conduct_chapter(session),
    )
    made = session.records[-1].content["versions"] if session.records else {}
    title = str(session.config.get("title") or "Session")
    return Document(title, "Report of a cryo-EM session", tuple(each for each in chapters if each), tuple(made.items()))
