"""From sums over an optics group to its aberrations, in the units of a table, and into the table.

Convention: terms are named by what they are: shift (Å), tilt (mrad), coma, trefoil and tetrafoil (RELION's Zernike coefficients, x with the
cosine and y with the sine), defocus and astigmatism (Å, added to the quadratic form of the defocus), cs (mm). What is found is a change,
added to what the table has already.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from firn.formats.aberrations import MAGNIFICATION, NEUTRAL, TILT, Aberrations, coefficient_text
from firn.kernels.aberrations import coma_factor, zernike_basis
from firn.kernels.ctf import wavelength
from firn.refine.aberrations import Fit, GroupSums, fit_stretch, matches, significant_fit

LEAST_CS = 0.1
"""mm. Below it a beam tilt makes no coma worth the name, and coma is written as a Zernike polynomial."""
THRESHOLD = 16.0
"""Twice the growth of the log-likelihood from which on a change counts: four standard deviations of a single parameter."""
ODD_PLACES = {"trefoil_x": 5, "trefoil_y": 2, "coma_x": 4, "coma_y": 3}
EVEN_PLACES = {"tetrafoil_x": 8, "tetrafoil_y": 4}


@dataclass(frozen=True)
class Wanted:
    """Which aberrations are fitted."""

    tilt: bool = True
    trefoil: bool = True
    cs: bool = False
    tetrafoil: bool = False
    magnification: bool = False


@dataclass(frozen=True)
class Change:
    """What was found for one optics group: fits of phases, change of magnification (xy) with its error, and what each part is worth."""

    group: Aberrations
    odd: Fit | None
    even: Fit | None
    stretch: np.ndarray
    stretch_error: float
    errors: dict[str, float]
    """Standard errors of all terms, also of those that are left out for their lack of worth."""
    gains: dict[str, float]

    def applied(self, part: str) -> bool:
        """Whether a part (tilt, coma, trefoil, cs, tetrafoil, magnification) is worth a change."""
        return self.gains.get(part, 0.0) >= THRESHOLD


def odd_basis(frequencies: Tensor, group: Aberrations, wanted: Wanted) -> dict[str, Tensor]:
    """Phases in rad that one unit of each odd term gives."""
    fy, fx = frequencies.double().unbind(-1)
    basis = {"shift_x": 2 * torch.pi * fx, "shift_y": 2 * torch.pi * fy}
    zernike = zernike_basis(frequencies, 6, odd=True)
    if wanted.tilt and group.cs_mm >= LEAST_CS:
        coma = -coma_factor(group.voltage_kv, group.cs_mm) * (fx**2 + fy**2)
        basis |= {"tilt_x": coma * fx, "tilt_y": coma * fy}
    elif wanted.tilt:
        basis |= {name: zernike[ODD_PLACES[name]] for name in ("coma_x", "coma_y")}
    if wanted.trefoil:
        basis |= {name: zernike[ODD_PLACES[name]] for name in ("trefoil_x", "trefoil_y")}
    return basis


def even_basis(frequencies: Tensor, group: Aberrations, wanted: Wanted) -> dict[str, Tensor]:
    """Changes of chi in rad that one unit of each even term gives."""
    fy, fx = frequencies.double().unbind(-1)
    lam = float(wavelength(group.voltage_kv))
    squares = {"defocus": fx**2 + fy**2, "astigmatism_x": fx**2 - fy**2, "astigmatism_y": 2 * fx * fy}
    basis = {name: torch.pi * lam * square for name, square in squares.items()}
    if wanted.cs:
        basis["cs"] = -0.5 * torch.pi * 1e7 * lam**3 * (fx**2 + fy**2) ** 2
    if wanted.tetrafoil:
        zernike = zernike_basis(frequencies, 9, odd=False)
        basis |= {name: -zernike[place] for name, place in EVEN_PLACES.items()}
    return basis


def find_change(sums: GroupSums, frequencies: Tensor, points: Tensor, group: Aberrations, wanted: Wanted, several: bool) -> Change:
    """Fit what is wanted to a group's sums; several: whether other groups share the map, so that the group's own pixel size shows."""
    gains: dict[str, float] = {}
    errors: dict[str, float] = {}
    fits: list[Fit | None] = []
    for phases, basis in ((sums.odd, odd_basis(frequencies, group, wanted)), (sums.even, even_basis(frequencies, group, wanted))):
        parts = _parts(basis)
        if not parts:
            fits.append(None)
            continue
        whole, fit, found = significant_fit(phases, basis, list(parts.values()), frequencies.norm(dim=-1), THRESHOLD)
        gains |= {name: found[terms] for name, terms in parts.items()}
        errors |= {name: whole.error(name) for name in whole.names}
        fits.append(fit)
    stretch, error = np.zeros((2, 2)), 0.0
    if wanted.magnification:
        matrices = torch.tensor([[[-1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])[: 3 if several else 2]
        amounts, covariance = fit_stretch(sums.stretch, points, matrices.to(points))
        stretch = torch.einsum("p,pij->ij", amounts.cpu(), matrices.double()).numpy()[::-1, ::-1]
        error = float(covariance.diagonal().max().sqrt())
        match = matches(sums.odd, torch.zeros_like(sums.odd.power) if fits[0] is None else fits[0].phase)
        gains["magnification"] = match * float(amounts @ torch.linalg.solve(covariance, amounts))
    return Change(group, fits[0], fits[1], stretch, error, errors, gains)


def changed_table(table: pd.DataFrame, changes: list[Change]) -> pd.DataFrame:
    """The table with the changes that count, in its optics, defocus and origins."""
    columns = {
        name: table[name].copy() if name in table.columns else pd.Series(value, index=table.index) for name, value in NEUTRAL.items()
    }
    columns |= {
        name: table[name].astype(float).copy() for name in ("origin_x", "origin_y", "defocus_u", "defocus_v", "defocus_angle", "cs_mm")
    }
    for change in changes:
        rows = table.index[change.group.rows]
        for name, values in _values(table.loc[rows], change).items():
            columns[name].loc[rows] = values
    kept = {name: column for name, column in columns.items() if name in table.columns or not (column == NEUTRAL[name]).all()}
    return table.assign(**kept)


def _values(table: pd.DataFrame, change: Change) -> dict[str, np.ndarray | float | str]:
    """New values of the columns of one group."""
    values: dict[str, np.ndarray | float | str] = {}
    if change.odd is not None and any(change.applied(part) for part in ("tilt", "coma", "trefoil")):
        values |= {name: change.group.tilt[i] + change.odd.value(f"tilt_{'xy'[i]}") for i, name in enumerate(TILT)}
        values |= {f"origin_{axis}": table[f"origin_{axis}"].to_numpy() + change.odd.value(f"shift_{axis}") for axis in "xy"}
        values["odd_zernike"] = _added(change.group.odd, change.odd, ODD_PLACES)
    moved = {"defocus": 0.0, "astigmatism_x": 0.0, "astigmatism_y": 0.0}
    if change.even is not None and any(change.applied(part) for part in ("cs", "tetrafoil")):
        values["even_zernike"] = _added(change.group.even, change.even, EVEN_PLACES)
        values["cs_mm"] = change.group.cs_mm + change.even.value("cs")
        moved = {name: change.even.value(name) for name in moved}
    stretch = np.eye(2)
    if change.applied("magnification"):
        stretch = np.eye(2) + change.stretch
        values |= dict(zip(MAGNIFICATION, (stretch @ change.group.magnification).ravel(), strict=True))
    return values | _defocus(table, stretch, *moved.values())


def _added(before: np.ndarray, fit: Fit, places: dict[str, int]) -> str:
    """A list of Zernike coefficients with what was found; empty when there is nothing in it."""
    total = np.zeros(max(len(before), max(places.values()) + 1))
    total[: len(before)] = before
    for name, place in places.items():
        total[place] += fit.value(name)
    return coefficient_text(total) if total.any() else ""


def _defocus(table: pd.DataFrame, stretch: np.ndarray, mean: float, cosine: float, sine: float) -> dict[str, np.ndarray | float | str]:
    """Defocus u, v and angle after a change of its quadratic form, in frequencies that are stretched."""
    if not any((mean, cosine, sine)) and np.array_equal(stretch, np.eye(2)):
        return {}
    u, v, angle = (table[name].to_numpy(np.float64) for name in ("defocus_u", "defocus_v", "defocus_angle"))
    average, half, twice = (u + v) / 2 + mean, (u - v) / 2, np.deg2rad(2 * angle)
    xx, xy = half * np.cos(twice) + cosine, half * np.sin(twice) + sine
    form = np.stack((np.stack((average + xx, xy), -1), np.stack((xy, average - xx), -1)), -2)
    back = np.linalg.inv(stretch)
    form = back.T @ form @ back
    average, xx, xy = (form[:, 0, 0] + form[:, 1, 1]) / 2, (form[:, 0, 0] - form[:, 1, 1]) / 2, form[:, 0, 1]
    half = np.hypot(xx, xy)
    return {"defocus_u": average + half, "defocus_v": average - half, "defocus_angle": np.degrees(np.arctan2(xy, xx)) / 2}


def _parts(basis: dict[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """Terms that are kept or left out together, by the part they belong to."""
    names = ("tilt", "coma", "trefoil", "cs", "tetrafoil")
    parts = {part: tuple(term for term in basis if term.rsplit("_", 1)[0] == part) for part in names}
    return {part: terms for part, terms in parts.items() if terms}
