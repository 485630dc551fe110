"""Find the aberrations that particles of an optics group share: beam tilt, trefoil, and when asked Cs, tetrafoil and magnification."""

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.aberration_fit import Change, Wanted, changed_table, find_change
from firn.families.compared_particles import Comparison, ComparisonParams, HalfSet, compare_with_halves, grey_and_noise
from firn.families.posed_particles import read_posed
from firn.formats.aberrations import Aberrations, optics_groups
from firn.formats.star import write_star
from firn.formats.tables import write_table
from firn.kernels.ctf import wavelength
from firn.refine.aberrations import GroupSums, add_images_, measured_even
from firn.report.aberrations import Panel, draw_phases
from firn.runtime.job import Job

STEP = 0.25
"""In units of 1/n. Half the distance over which the gradient of a projection is taken."""
SHOWN = 6


class Params(ComparisonParams):
    """Find how the microscope was misaligned, from how images differ from projections of the map in their poses, in each optics group.

    Beam tilt and trefoil shift the phases of fine detail; spherical aberration and tetrafoil change its contrast; uneven magnification
    stretches images. Each particle is compared with the half map of the other half-set, which does not hold its own noise; both half-sets
    get the same few numbers. A change that does not stand out from the noise is not made. All jobs that use the particles afterwards take
    what is found into account.
    """

    sought: ClassVar[str] = "aberrations"
    min_resolution: float = Field(10.0, gt=0)
    """Å. Coarsest detail used."""
    fit_tilt: bool = True
    """Fit beam tilt; as coma where the spherical aberration is less than 0.1 mm."""
    fit_trefoil: bool = True
    """Fit trefoil, a threefold phase error."""
    fit_cs: bool = False
    """Fit the spherical aberration, together with the group's mean defocus and astigmatism."""
    fit_tetrafoil: bool = False
    """Fit tetrafoil, a fourfold change of the CTF."""
    fit_magnification: bool = False
    """Fit how much images are stretched along one direction."""
    iterations: int | None = Field(None, ge=1, le=10)
    """How often images are compared; none = once, or twice with magnification."""


def run(job: Job[Params]) -> None:
    """Compare, fit every group, change the table, as often as asked; write particles.star, aberrations.star and pictures."""
    wanted = _wanted(job)
    table = read_posed(job.input("particles", "particles.star"))
    table = table.assign(**{name: 0.0 for name in ("origin_x", "origin_y") if name not in table.columns})
    comparison, pixel_size = compare_with_halves(job, table)
    frequencies = comparison.disc.points / (comparison.side * pixel_size)
    seen: list[tuple[list[GroupSums], list[Change]]] = []
    for _ in range(job.params.iterations or (2 if wanted.magnification else 1)):
        groups = optics_groups(table)
        sums = _compare(job, table, comparison, pixel_size, groups)
        changes = [
            find_change(part, frequencies, comparison.disc.points, group, wanted, len(groups) > 1)
            for part, group in zip(sums, groups, strict=True)
        ]
        table = changed_table(table, changes)
        seen.append((sums, changes))
    write_table(job.folder / "particles.star", table, "particles")
    rows = [_row(optics_groups(table.iloc[change.group.rows])[0], change) for change in seen[0][1]]
    write_star(job.folder / "aberrations.star", {"aberrations": pd.DataFrame(rows)})
    _report(job, rows, comparison.finest)
    _draw(job, comparison, *seen[0])


def _wanted(job: Job[Params]) -> Wanted:
    params = job.params
    wanted = Wanted(params.fit_tilt, params.fit_trefoil, params.fit_cs, params.fit_tetrafoil, params.fit_magnification)
    if not any(vars(wanted).values()):
        raise InputError(f"job {job.name}: nothing is to be fitted; switch on one of fit_tilt ... fit_magnification")
    return wanted


def _compare(
    job: Job[Params], table: pd.DataFrame, comparison: Comparison, pixel_size: float, groups: list[Aberrations]
) -> list[GroupSums]:
    """Sums over the particles of each group, each against the half map that does not hold its noise."""
    sums = [GroupSums.empty(len(comparison.disc.points), job.device) for _ in groups]
    owner = np.empty(len(table), dtype=np.int64)
    for number, group in enumerate(groups):
        owner[group.rows] = number
    for number, half in comparison.half_sets(table, pixel_size, crossed=True):
        factor, noise = grey_and_noise(job, half, number)
        members = [half.rows[owner[half.rows] == index] for index in range(len(groups))]
        batches = [(index, rows) for index, own in enumerate(members) if len(own) for rows in half.batches(own)]
        for index, rows in job.over(batches, f"particles of half {number}"):
            _add(job, sums[index], half, rows, factor, half.disc.weights / noise)
    return sums


def _add(job: Job[Params], sums_: GroupSums, half: HalfSet, rows: np.ndarray, factor: float, weights: Tensor) -> None:
    batch, images = half.load(rows)
    projections = half.projections(rows, batch.rotations, factor)
    gradient = None
    if job.params.fit_magnification:
        ahead, behind = (
            [half.projections(rows, batch.rotations, factor, offset) for offset in ((sign * STEP, 0.0), (0.0, sign * STEP))]
            for sign in (1, -1)
        )
        gradient = torch.stack([(one - other) / (2 * STEP) for one, other in zip(ahead, behind, strict=True)])
    add_images_(sums_, images, projections, half.phase(rows), weights, gradient)


def _row(now: Aberrations, first: Change) -> dict[str, float | str]:
    """Aberrations of one group as they are now, the errors of what was fitted, and whether each part was changed at all."""
    lam = float(wavelength(now.voltage_kv))
    odd, even = np.pad(now.odd, (0, max(0, 6 - len(now.odd)))), np.pad(now.even, (0, max(0, 9 - len(now.even))))
    row: dict[str, float | str] = {"firnOpticsName": now.name, "firnParticleCount": len(first.group.rows)}
    row |= {"rlnBeamTiltX": now.tilt[0], "rlnBeamTiltY": now.tilt[1], "rlnSphericalAberration": now.cs_mm}
    scales = {"trefoil_x": 1.5 / (np.pi * lam**2), "tetrafoil_x": 2 / (np.pi * lam**3)}
    trefoil, tetrafoil = scales["trefoil_x"] * float(np.hypot(odd[5], odd[2])), scales["tetrafoil_x"] * float(np.hypot(even[8], even[4]))
    row |= {"firnTrefoil": trefoil, "firnTrefoilAngle": _direction(odd[5], odd[2], 3)}
    row |= {"firnTetrafoil": tetrafoil, "firnTetrafoilAngle": _direction(even[8], even[4], 4)}
    stretch = (now.magnification + now.magnification.T) / 2
    row |= {"firnStretch": float(np.ptp(np.linalg.eigvalsh(stretch)))}
    for name in ("tilt_x", "tilt_y", "trefoil_x", "cs", "tetrafoil_x"):
        if name in first.errors:
            row[f"firnError{name.title().replace('_', '')}"] = scales.get(name, 1.0) * first.errors[name]
    row |= {"firnErrorStretch": 2 * first.stretch_error} if first.stretch_error else {}
    return row | {f"firnChange{part.title()}": float(first.applied(part)) for part in first.gains}


def _direction(cosine: float, sine: float, fold: int) -> float:
    return float(np.degrees(np.arctan2(sine, cosine)) / fold)


def _report(job: Job[Params], rows: list[dict[str, float | str]], finest: float) -> None:
    job.metric("optics_groups", len(rows))
    job.metric("finest_resolution", finest, "Å")
    units = {
        "rlnBeamTiltX": "mrad",
        "rlnBeamTiltY": "mrad",
        "firnTrefoil": "Å",
        "firnTetrafoil": "Å",
        "firnStretch": "",
        "rlnSphericalAberration": "mm",
    }
    for label, unit in units.items():
        name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in label[3:].removeprefix("n")).strip("_")
        job.metric(name, float(np.median([float(row[label]) for row in rows])), unit)
    same = [str(row["firnOpticsName"]) for row in rows if not any(value for label, value in row.items() if label.startswith("firnChange"))]
    if same:
        job.warn(f"{len(same)} of {len(rows)} optics groups show nothing beyond the noise and keep their values; the first is {same[0]}.")


def _draw(job: Job[Params], comparison: Comparison, sums: list[GroupSums], changes: list[Change]) -> None:
    """Measured and fitted phases of the largest groups."""
    largest = sorted(range(len(changes)), key=lambda number: -sums[number].particles)[:SHOWN]
    points = comparison.disc.points.cpu().numpy()
    for name, title in (("odd", "Antisymmetric phase error"), ("even", "Symmetric phase error")):
        panels = [panel for number in largest if (panel := _panel(name, sums[number], changes[number])) is not None]
        if panels:
            caption = (
                "Phase error of the images against projections in each optics group, as measured (left, averaged over a few neighbouring "
                "points) and as fitted (right), up to the finest resolution used. A measured picture without pattern has nothing to correct."
            )
            draw_phases(job.figure(f"{name}_phase", title, caption), points, panels, name == "odd")


def _panel(name: str, sums: GroupSums, change: Change) -> Panel | None:
    fit = change.odd if name == "odd" else change.even
    if fit is None:
        return None
    if name == "odd":
        measured, made = sums.odd.cross, [part for part in ("tilt", "coma", "trefoil") if change.applied(part)]
    else:
        phase = measured_even(sums.even)
        measured, made = (
            torch.polar(sums.even.terms(fit.phase)[2].clamp(min=0), phase),
            [p for p in ("cs", "tetrafoil") if change.applied(p)],
        )
    title = f"{change.group.name}: " + (", ".join(made) if made else "no change")
    return Panel(title, measured.cpu().numpy(), fit.phase.cpu().numpy())
