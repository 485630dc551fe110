"""XML that comes with movies, from anywhere: read without following entities, which could fill the memory."""

from xml.etree import ElementTree


def parse_xml(text: str) -> ElementTree.Element:
    """Root of an XML text, which may end in zero bytes as TIFF tags do. Raises ValueError when it is none or holds a document type."""
    if "<!DOCTYPE" in text:
        raise ValueError("it holds a document type")
    try:
        return ElementTree.fromstring(text.strip().strip("\0"))
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
