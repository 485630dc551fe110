"""Fourier shell correlation curves on disk: a RELION-labelled STAR table, and EMDB's FSC XML.

One row per shell 0 ... n // 2 with the spatial frequency `shell / (n * pixel_size)` in 1/Å; shell 0 has the resolution 999 Å
as in RELION's files. Curves are named unmasked, spherical, loose, tight, randomised and corrected; others keep their names.
Source: EMDB's FSC schema (https://www.ebi.ac.uk/emdb/documentation).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from firn.errors import InputError
from firn.formats.star import read_star, write_star
from firn.formats.xml_text import parse_xml

SHELL_COLUMNS = {"shell": "rlnSpectralIndex", "frequency": "rlnResolution", "resolution": "rlnAngstromResolution"}
CURVES = {
    "corrected": "rlnFourierShellCorrelationCorrected",
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
    "tight": "rlnFourierShellCorrelationMaskedMaps",
    "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
    "spherical": "firnFscSpherical",
    "loose": "firnFscLoose",
    "model": "firnFscModel",
}
_TO_LABEL = SHELL_COLUMNS | CURVES
_TO_NAME = {label: name for name, label in _TO_LABEL.items()}


def fsc_table(curves: Mapping[str, np.ndarray], n: int, pixel_size: float) -> pd.DataFrame:
    """Table with the columns shell, frequency (1/Å), resolution (Å) and one per curve `(n // 2 + 1,)`."""
    shells = np.arange(n // 2 + 1)
    frequency = shells / (n * pixel_size)
    resolution = np.concatenate(([999.0], 1 / frequency[1:]))
    return pd.DataFrame({"shell": shells, "frequency": frequency, "resolution": resolution, **curves})


def write_fsc(path: str | os.PathLike, table: pd.DataFrame) -> None:
    """Write a table of curves as the block data_fsc."""
    write_star(path, {"fsc": table.rename(columns=_TO_LABEL)})


def read_fsc(path: str | os.PathLike) -> pd.DataFrame:
    """Table of curves, columns named as in fsc_table; RELION's postprocess.star is read as well.

    Raises InputError when there is no block data_fsc with shells.
    """
    table = read_star(path).get("fsc")
    if table is None or "rlnSpectralIndex" not in table.columns:
        raise InputError(f"{path}: has no block data_fsc with the column _rlnSpectralIndex")
    return table.rename(columns=_TO_NAME)


def write_fsc_xml(path: str | os.PathLike, frequency: np.ndarray, curve: np.ndarray, title: str) -> None:
    """Write one curve as EMDB's FSC XML; frequency in 1/Å."""
    root = ElementTree.Element("fsc", title=title, xaxis="Resolution (A-1)", yaxis="Correlation Coefficient")
    for x, y in zip(frequency, curve, strict=True):
        coordinate = ElementTree.SubElement(root, "coordinate")
        ElementTree.SubElement(coordinate, "x").text = f"{x:.6f}"
        ElementTree.SubElement(coordinate, "y").text = f"{y:.6f}"
    ElementTree.indent(root)
    Path(path).write_text(ElementTree.tostring(root, encoding="unicode") + "\n", encoding="utf-8")


def read_fsc_xml(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray, str]:
    """(frequency in 1/Å, curve, title) of EMDB's FSC XML.

    Raises InputError when it has no coordinates, or one that is not two numbers.
    """
    try:
        root = parse_xml(Path(path).read_text(encoding="utf-8"))
        points = [(float(point.findtext("x", "")), float(point.findtext("y", ""))) for point in root.findall("coordinate")]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as EMDB's FSC XML ({error})") from error
    if root.tag != "fsc" or not points:
        raise InputError(f"{path}: is no FSC XML with coordinates, its root is <{root.tag}>")
    x, y = np.array(points).T
    return x, y, root.get("title", "")
