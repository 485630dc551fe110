"""Which exposure a file of another program speaks of: by the name of its movie or micrograph, without folder and ending.

Programs add words to the name: `_autopick`, `_manualpick`, `_DW` and the like. The whole name counts first, then the name with one such word less, and so on.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from firn.errors import InputError, brief

ENDINGS = (".mrc", ".mrcs", ".tif", ".tiff", ".eer", ".gz", ".bz2", ".xz", ".box", ".cbox", ".star", ".txt", ".tsv", ".csv")
WORDS = (
    *("_autopick", "_manualpick", "_automatch", "_picks", "_box", "_topaz", "_topazpicks"),
    *("_patch_aligned_doseweighted", "_patch_aligned", "_aligned", "_noDW", "_DW", "_Fractions", "_fractions", "_EER"),
)
SOURCES = ("exposure_id", "micrograph", "micrograph_plain", "movie")

Names = tuple[Mapping[str, set[int]], Mapping[str, set[int]]]
"""Rows of exposures by whole name, and by name without added words."""


def names_of(exposures: pd.DataFrame) -> Names:
    """All names by which the exposures may be called; also without the id that an import puts behind a name."""
    whole: dict[str, set[int]] = {}
    bare: dict[str, set[int]] = {}
    for column in (name for name in SOURCES if name in exposures.columns):
        for row, (path, own) in enumerate(zip(exposures[column].astype(str), exposures["exposure_id"].astype(str), strict=True)):
            stem = stem_of(path)
            for name in {stem, stem.removesuffix(f"_{own}")}:
                whole.setdefault(name, set()).add(row)
                bare.setdefault(_forms(name)[-1], set()).add(row)
    return whole, bare


def find_exposure(names: Names, path: str) -> int | None:
    """Row of the exposure that a file, or a name in it, belongs to; None when there is none.

    Raises InputError when several exposures are called so.
    """
    whole, bare = names
    forms = _forms(stem_of(path))
    rows = next((whole[form] for form in forms if form in whole), bare.get(forms[-1], set()))
    if len(rows) > 1:
        raise InputError(f"'{brief(path)}' may mean any of {len(rows)} exposures, whose names differ by folder or added words alone")
    return next(iter(rows), None)


def stem_of(path: str) -> str:
    """Name without folder and endings; dots inside a name stay."""
    name = Path(path).name
    while ending := next((ending for ending in ENDINGS if name.lower().endswith(ending) and len(name) > len(ending)), None):
        name = name[: -len(ending)]
    return name


def _forms(stem: str) -> list[str]:
    """The name as it is, and with one added word less each time."""
    forms = [stem]
    while word := next((word for word in WORDS if forms[-1].endswith(word) and len(forms[-1]) > len(word)), None):
        forms.append(forms[-1][: -len(word)])
    return forms
