"""A report as a PDF: A4, letters of its own, no picture apart from its words, page numbers, the same bytes for the same report."""

import os
from collections.abc import Iterator, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from reportlab import rl_config
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import CondPageBreak, Flowable, Image, KeepTogether, LongTable, Paragraph, SimpleDocTemplate, Spacer
from reportlab.platypus import Table as Grid

from firn.report.document import Block, Document, Facts, Heading, Picture, Section, Table, Text

MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN
TALLEST = 185 * mm
GAP = 4 * mm
FRAME = 6
"""Points that a frame keeps free inside its margins."""
TABLE_START = 50 * mm
"""Room for the title and first rows of a table, below which it starts on the next page."""
HALF = 0.5
LARGEST_PIXEL = 72 / 110
"""Points. No picture is blown up beyond 110 dots per inch."""
INK, QUIET, ACCENT, LINE, AMBER, PALE = (HexColor(text) for text in ("#1a202c", "#5a6778", "#2b6cb0", "#d5dce6", "#b7610d", "#f5f7fa"))
BODY = ParagraphStyle("body", fontName="firn", fontSize=9, leading=12.5, textColor=INK, spaceAfter=4)
STYLES = {
    "body": BODY,
    "cell": ParagraphStyle("cell", BODY, fontSize=7.8, leading=10, spaceAfter=0),
    "head": ParagraphStyle("head", BODY, fontSize=7.8, leading=10, spaceAfter=0, textColor=QUIET),
    "caption": ParagraphStyle("caption", BODY, fontSize=7.8, leading=10, textColor=QUIET, spaceBefore=2, spaceAfter=10),
    "warning": ParagraphStyle("warning", BODY, textColor=AMBER, leftIndent=8, borderColor=AMBER),
    "title": ParagraphStyle("title", BODY, fontName="firn-bold", fontSize=20, leading=25, spaceAfter=2),
    "subtitle": ParagraphStyle("subtitle", BODY, fontSize=10, textColor=QUIET, spaceAfter=12),
    "section": ParagraphStyle(
        "section", BODY, fontName="firn-bold", fontSize=14, leading=18, spaceBefore=14, spaceAfter=6, textColor=ACCENT
    ),
    "heading": ParagraphStyle("heading", BODY, fontName="firn-bold", fontSize=10, leading=13, spaceBefore=8, spaceAfter=4),
}


def write_pdf(document: Document, destination: Path) -> None:
    """Write the report; the file appears whole or not at all."""
    _register_letters()
    flowables = [_words(document.title, "title"), _words(document.subtitle, "subtitle")]
    for section in document.sections:
        flowables += list(_section(section))
    versions = dict(document.versions)
    footer = f"firn {versions.get('firn', '')}".strip()
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    template = SimpleDocTemplate(
        str(partial), pagesize=A4, leftMargin=MARGIN - FRAME, rightMargin=MARGIN - FRAME, topMargin=20 * mm, bottomMargin=18 * mm,
        title=document.title, author=footer, subject=document.subtitle, invariant=1,
    )  # fmt: skip
    template.build(flowables, canvasmaker=lambda *given, **more: _NumberedCanvas(document.title, footer, *given, **more))
    os.replace(partial, destination)


class _NumberedCanvas(Canvas):
    """Keeps its pages until their number is known, then writes head and foot of each."""

    def __init__(self, head: str, foot: str, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._head, self._foot = head, foot
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802, reportlab calls it
        """End a page."""
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Write all pages."""
        for number, page in enumerate(self._pages, 1):
            self.__dict__.update(page)
            self._border(number, len(self._pages))
            super().showPage()
        super().save()

    def _border(self, number: int, count: int) -> None:
        self.setFont("firn", 7.5)
        self.setFillColor(QUIET)
        self.setStrokeColor(LINE)
        if number > 1:
            self.drawString(MARGIN, A4[1] - 12 * mm, self._head[:90])
            self.line(MARGIN, A4[1] - 14 * mm, A4[0] - MARGIN, A4[1] - 14 * mm)
        self.drawString(MARGIN, 10 * mm, self._foot)
        self.drawRightString(A4[0] - MARGIN, 10 * mm, f"page {number} of {count}")


def _register_letters() -> None:
    """DejaVu Sans, which comes with matplotlib and has every sign a report needs."""
    rl_config.useA85 = 0
    if "firn" in pdfmetrics.getRegisteredFontNames():
        return
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    for name, file in (("firn", "DejaVuSans.ttf"), ("firn-bold", "DejaVuSans-Bold.ttf")):
        pdfmetrics.registerFont(TTFont(name, str(folder / file)))
    pdfmetrics.registerFontFamily("firn", normal="firn", bold="firn-bold", italic="firn", boldItalic="firn-bold")


def _section(section: Section) -> Iterator[Flowable]:
    """Flowables of a section; a heading never stands alone at the foot of a page."""
    waiting: list[Flowable] = [_words(section.title, "section")]
    for blocks in _rows(section.blocks):
        if isinstance(blocks[0], Heading):
            waiting.append(_words(blocks[0].text, "heading"))
            continue
        if isinstance(blocks[0], Table):
            yield from (CondPageBreak(TABLE_START), *waiting, *_table(blocks[0]))
        else:
            yield KeepTogether([*waiting, *(_pair(blocks) if isinstance(blocks[0], Picture) else _block(blocks[0]))])
        waiting = []
    yield from waiting


def _rows(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Blocks one by one, but half-wide pictures that follow each other in pairs."""
    row: list[Block] = []
    for block in blocks:
        narrow = isinstance(block, Picture) and block.width <= HALF
        if row and (not narrow or len(row) == 2):
            yield row
            row = []
        if narrow:
            row.append(block)
        else:
            yield [block]
    if row:
        yield row


def _block(block: Block) -> Iterator[Flowable]:
    if isinstance(block, Text):
        yield _words(block.text, "warning" if block.warning else "body")
    elif isinstance(block, Facts) and block.rows:
        rows = [[_words(name, "head"), _words(value, "cell")] for name, value in block.rows]
        yield _grid(rows, (0.26, 0.74), head=False)
        yield Spacer(1, GAP)


def _table(table: Table) -> Iterator[Flowable]:
    """Title and rows, which may run over several pages, with the head again on each."""
    head = [_words(text, "head") for text in table.head]
    rows = [[_words(text, "cell") for text in row] for row in table.rows]
    yield _words(table.title, "heading")
    yield _grid([head, *rows], table.shares, head=True)
    yield Spacer(1, GAP)


def _grid(rows: list[list[Flowable]], shares: Sequence[float], head: bool) -> Flowable:
    style: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
        ("LEFTPADDING", (0, 0), (-1, -1), 2),
        ("RIGHTPADDING", (0, 0), (-1, -1), 6),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
    ]
    style += [("BACKGROUND", (0, 0), (-1, 0), PALE)] if head else []
    return LongTable(rows, colWidths=[share * WIDTH for share in shares], repeatRows=int(head), style=style, hAlign="LEFT")


def _pair(pictures: Sequence[Block]) -> list[Flowable]:
    """One picture, or two side by side, with their captions."""
    cells = [
        _picture(each, WIDTH * each.width if each.width > HALF else (WIDTH - GAP) / 2) for each in pictures if isinstance(each, Picture)
    ]
    if len(cells) == 1:
        return cells[0]
    style = [("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (0, 0), GAP)]
    return [Grid([cells], colWidths=[(WIDTH + GAP) / 2, (WIDTH - GAP) / 2], style=style, hAlign="LEFT")]


def _picture(picture: Picture, width: float) -> list[Flowable]:
    pixels = ImageReader(BytesIO(picture.png)).getSize()
    scale = min(width / pixels[0], TALLEST / pixels[1], LARGEST_PIXEL)
    words = f"<b>{escape(picture.title)}.</b> {escape(picture.caption)}"
    image = Image(BytesIO(picture.png), pixels[0] * scale, pixels[1] * scale, hAlign="LEFT")
    return [image, Paragraph(words, STYLES["caption"])]


def _words(text: str, style: str) -> Flowable:
    return Paragraph(escape(text), STYLES[style])
