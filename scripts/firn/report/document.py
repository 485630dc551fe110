"""What a report says, apart from how it looks: sections of text, facts, tables and pictures, which the page and the PDF set alike."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Heading:
    """Of what follows within a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; a warning stands out."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Facts:
    """Short statements: what it is, and its value."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """Rows under a head; shares are the columns' parts of the page width, and every row has as many cells."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """A PNG with its words; width is its part of the page width, source the file it comes from, if any."""

    png: bytes
    title: str
    caption: str = ""
    width: float = 1.0
    source: str = ""


def file_picture(path: Path, title: str, caption: str, width: float = 1.0) -> Picture:
    """A picture that lies on disk."""
    return Picture(path.read_bytes(), title, caption, width, str(path))


Block = Heading | Text | Facts | Table | Picture


@dataclass(frozen=True)
class Section:
    """A chapter of the report; anchor is where a link leads to."""

    title: str
    anchor: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """The whole report; versions tell what made it."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    versions: tuple[tuple[str, str], ...] = ()
