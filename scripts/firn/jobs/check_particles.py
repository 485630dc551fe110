"""Look at every particle image: is it there, readable, finite, and no stranger among the others?"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from firn.errors import InputError
from firn.formats.mrc import read_sections, read_shape
from firn.formats.particles import CTF_NUMBERS
from firn.formats.tables import read_table, split_image_names, without_number, write_table
from firn.report.particle_sets import draw_chosen
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

AT_ONCE = 256
"""Images read at once."""


class Params(JobParams):
    """Find particles whose image is missing, cut short, not finite, constant, of another size, or far stronger than the others, or whose CTF is unknown.

    Sound particles go on; the rest are listed with their reasons.
    """

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "cpu"
    offers: ClassVar[tuple[Kind, ...]] = ("particles",)
    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {"rejected": ("particles",)}

    particles: str = slot("particles")
    """Particles to check."""
    outlier_sd: float = Field(12.0, gt=3)
    """Images whose standard deviation (logarithm) is this many robust standard deviations from the median are refused."""


def run(job: Job[Params]) -> None:
    """Write the sound particles, and the others with reason_code and reason."""
    table = read_table(job.input("particles", "particles.star"), "particles", needs=("image", "particle_id"))
    sections, stacks = split_image_names(table["image"])
    codes, spread = np.full(len(table), "", dtype=object), np.full(len(table), np.nan)
    shapes: dict[str, tuple[int, int]] = {}
    for stack in job.over(list(pd.unique(stacks)), "stacks"):
        rows = np.flatnonzero(stacks == stack)
        try:
            (count, *side), _ = read_shape(stack)
        except InputError:
            codes[rows] = "TRUNCATED" if Path(stack).exists() else "MISSING"
            continue
        shapes[stack] = (side[0], side[1])
        codes[rows[sections[rows] >= count]] = "MISSING"
        _look_at(stack, rows[sections[rows] < count], sections, codes, spread)
    codes[(codes == "") & without_number(table, CTF_NUMBERS)] = "NUMBERS"
    codes[(codes == "") & (_odd_shapes(stacks, shapes))] = "SHAPE"
    codes[(codes == "") & table["particle_id"].duplicated().to_numpy()] = "TWICE"
    codes[(codes == "") & _outlying(spread, codes == "", job.params.outlier_sd)] = "STRANGE"
    _write(job, table, codes, spread)


REASONS = {
    "MISSING": "the image is not there",
    "TRUNCATED": "the stack cannot be read: it is cut short or no MRC file",
    "NUMBERS": "a number is missing that the CTF needs",
    "NONFINITE": "the image has pixels that are no number",
    "ZERO": "the image is constant",
    "SHAPE": "the image is of another size than most",
    "TWICE": "another particle has the same particle_id",
    "STRANGE": "the image is far stronger or weaker than the others",
}


def _look_at(stack: str, rows: np.ndarray, sections: np.ndarray, codes_: np.ndarray, spread_: np.ndarray) -> None:
    """Fill in codes and standard deviations of some images of a stack."""
    order = rows[np.argsort(sections[rows], kind="stable")]
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        images = read_sections(stack, sections[some])
        finite = np.isfinite(images).all(axis=(1, 2))
        deviations = np.where(finite[:, None, None], images, 0).std(axis=(1, 2), dtype=np.float64)
        spread_[some] = np.where(finite, deviations, np.nan)
        codes_[some] = np.where(~finite, "NONFINITE", np.where(deviations == 0, "ZERO", ""))


def _odd_shapes(stacks: np.ndarray, shapes: dict[str, tuple[int, int]]) -> np.ndarray:
    """Images of another shape than that of most."""
    each = pd.Series(stacks).map(shapes)
    return each.notna().to_numpy() & (each != each.mode().iloc[0]).to_numpy() if each.notna().any() else np.zeros(len(stacks), dtype=bool)


def _outlying(spread: np.ndarray, sound: np.ndarray, limit: float) -> np.ndarray:
    if not sound.any():
        return np.zeros(len(spread), dtype=bool)
    level = np.log(np.where(sound, spread, 1.0))
    away = np.abs(level - np.median(level[sound]))
    return sound & (away > limit * max(1.4826 * float(np.median(away[sound])), 0.02))


def _write(job: Job[Params], table: pd.DataFrame, codes: np.ndarray, spread: np.ndarray) -> None:
    sound = codes == ""
    if not sound.any():
        raise InputError(
            f"job {job.name}: none of the {len(table)} particles is sound; the first: {REASONS[codes[0]] if len(codes) else ''}"
        )
    reasons = [REASONS[code] for code in codes[~sound]]
    write_table(job.folder / "particles.star", table[sound], "particles")
    write_table(job.folder / "rejected" / "particles.star", table[~sound].assign(reason_code=codes[~sound], reason=reasons), "particles")
    job.metric("particles", int(sound.sum()))
    for code in REASONS:
        if (codes == code).any():
            job.metric(f"particles {code.lower()}", int((codes == code).sum()))
            job.warn(f"{int((codes == code).sum())} particles: {REASONS[code]}.")
    path = job.figure("spread", "Standard deviation of the images", "All images that could be read, and those that are sound.")
    draw_chosen(path, spread, sound, "standard deviation of the image", (None, None))
