"""A few micrographs of a session with their picks: the best, middling and worst by a number, and some that were rejected."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from firn.errors import InputError
from firn.formats.mrc import read_mrc
from firn.report.picks import overlay
from firn.report.style import GREY, new_figure, png_of

JUDGED_BY = (("ctf_fit_resolution", "resolution of the CTF fit"), ("motion_total", "motion"), ("picks", "number of picks"))
PAIR = 2
REJECTED_SEED = 1
CIRCLE = "#4ade80"


@dataclass(frozen=True)
class Group:
    """Exposures shown side by side, and why these."""

    title: str
    rows: pd.DataFrame


def choose_examples(table: pd.DataFrame) -> tuple[list[Group], str]:
    """(groups of exposures, what they were judged by): best, median, worst of the accepted, and some rejected by chance.

    Every exposure is shown once; the chance has a fixed seed.
    """
    if "micrograph" not in table.columns:
        return [], ""
    there = table[table["micrograph"].map(lambda name: isinstance(name, str) and Path(name).exists())]
    accepted = there[there["verdict"] != "rejected"]
    column, words = next(((name, words) for name, words in JUDGED_BY if name in there.columns and accepted[name].notna().any()), ("", ""))
    ordered = accepted.sort_values(column, ascending=column != "picks", kind="stable") if column else accepted
    groups = list(_parts(ordered))
    rejected = there[there["verdict"] == "rejected"]
    if len(rejected):
        groups.append(Group("Rejected", rejected.sample(min(PAIR, len(rejected)), random_state=REJECTED_SEED)))
    return groups, words


def draw_examples(group: Group, picks: pd.DataFrame) -> bytes:
    """PNG of the group's micrographs side by side, with scale bars, circles at their picks and their numbers."""
    figure, axes = new_figure(4.3 * PAIR, 4.75, columns=PAIR)
    for axis in axes[0]:
        axis.set_axis_off()
    for axis, (_, row) in zip(axes[0], group.rows.iterrows(), strict=False):
        micrograph, pixel_size = _read(row)
        own = picks[picks["exposure_id"] == row["exposure_id"]] if "exposure_id" in picks.columns else pd.DataFrame()
        overlay(axis, micrograph, own, pixel_size, CIRCLE)
        axis.set_title(f"{_name(row)}\n{exposure_words(row)}", fontsize=8, color="black" if row["verdict"] != "rejected" else GREY)
    return png_of(figure)


def exposure_words(row: pd.Series) -> str:
    """The numbers of an exposure in a line."""
    parts = [("defocus", 1e-4, "{:.2f} µm"), ("ctf_fit_resolution", 1, "CTF to {:.1f} Å"), ("motion_total", 1, "motion {:.0f} Å")]
    words = [text.format(float(row[name]) * factor) for name, factor, text in parts if pd.notna(row.get(name))]
    return ", ".join([*words, *([f"{int(row['picks'])} picks"] if pd.notna(row.get("picks")) else [])])


def _parts(ordered: pd.DataFrame) -> Iterator[Group]:
    if len(ordered) <= PAIR:
        yield from ([Group("All", ordered)] if len(ordered) else [])
        return
    yield Group("Best", ordered.iloc[:PAIR])
    middle = ordered.iloc[PAIR:-PAIR]
    if len(middle):
        start = max((len(middle) - PAIR) // 2, 0)
        yield Group("Median", middle.iloc[start : start + PAIR])
    yield Group("Worst that were kept", ordered.iloc[max(len(ordered) - PAIR, PAIR) :])


def _read(row: pd.Series) -> tuple[np.ndarray, float]:
    image, pixel_size = read_mrc(str(row["micrograph"]))
    if image.ndim != 2:
        raise InputError(f"{row['micrograph']}: is no single micrograph but has the shape {image.shape}")
    return image, float(row.get("micrograph_pixel_size") or pixel_size)


def _name(row: pd.Series) -> str:
    name = Path(str(row.get("movie") if isinstance(row.get("movie"), str) else row["micrograph"])).stem
    return name if len(name) <= 44 else f"…{name[-43:]}"
