"""Fits of other programs mean the same CTF here; files in the forms that the programs write."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from firn.errors import InputError
from firn.formats.foreign_ctf import read_ctffind, read_gctf, read_ring_profile
from firn.kernels.ctf import ctf_2d

CTFFIND = """# Output from CTFFind version {version}, run on 2021-05-28 22:21:19
# Input file: image.mrc ; Number of micrographs: 1
# Pixel size: 1.097 Angstroms ; acceleration voltage: 300.0 keV ; spherical aberration: 2.70 mm ; amplitude contrast: 0.07
# Box size: 512 pixels ; min. res.: 18.0 Angstroms ; max. res.: 4.0 Angstroms ; min. def.: 3100.0 um; max. def. 6900.0 um
# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2; #4 - azimuth of astigmatism; #5 - additional phase shift [radians]
1.000000 {fit}{more}
"""
GCTF = """
   Defocus_U   Defocus_V       Angle{phase_head}         CCC
LAST CYCLE
    {fit}  Final Values

\x1b[1;31mResolution limit estimated by EPA: 3.464 \x1b[0m
Estimated Bfactor: 88.1 A^2
"""
OPTICS = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.07}


def ctffind(path: Path, fit: str, version: str = "4.1.14", more: str = "") -> Path:
    path.write_text(CTFFIND.format(version=version, fit=fit, more=more), encoding="utf-8")
    return path


def gctf(path: Path, fit: str, phase: bool = False) -> Path:
    path.write_text(GCTF.format(fit=fit, phase_head=" Phase_shift" if phase else ""), encoding="utf-8")
    return path


def ctf_as_published(first: float, second: float, angle: float, phase: float, fy: np.ndarray, fx: np.ndarray) -> np.ndarray:
    """-sin(chi) with both defoci as CTFFIND's paper and source have it, in its own order; angles in radians."""
    volts = OPTICS["voltage_kv"] * 1e3
    length = 12.2643 / math.sqrt(volts + 0.97845e-6 * volts**2)
    squared, azimuth = fx**2 + fy**2, np.arctan2(fy, fx)
    defocus = 0.5 * (first + second + np.cos(2 * (azimuth - angle)) * (first - second))
    contrast = OPTICS["amplitude_contrast"]
    amplitude = math.atan(contrast / math.sqrt(1 - contrast**2))
    return -np.sin(np.pi * length * squared * (defocus - 0.5 * length**2 * squared * OPTICS["cs_mm"] * 1e7) + phase + amplitude)


@pytest.mark.parametrize(("first", "second"), [(12300.0, 11100.0), (11100.0, 12300.0)])
@pytest.mark.parametrize("angle", [-38.9, 65.3, 171.0])
@pytest.mark.parametrize("phase", [0.0, 1.2])
def test_a_fit_means_the_same_ctf_here_as_in_its_program(tmp_path: Path, first: float, second: float, angle: float, phase: float) -> None:
    fy, fx = (axis.ravel() for axis in np.meshgrid(np.linspace(-0.12, 0.12, 41), np.linspace(-0.12, 0.12, 37), indexing="ij"))
    wanted = ctf_as_published(first, second, math.radians(angle), phase, fy, fx)
    frequencies = torch.from_numpy(np.stack((fy, fx), axis=-1))
    fits = [
        read_ctffind(ctffind(tmp_path / "a.txt", f"{first} {second} {angle} {phase:.6f} 0.24 4.6"), 30),
        read_gctf(gctf(tmp_path / "a.log", f"{first} {second} {angle} {math.degrees(phase):.4f} 0.18", phase=True)),
    ]
    for fit in fits:
        assert fit.defocus_u >= fit.defocus_v
        assert 0 <= fit.defocus_angle < 180
        found = ctf_2d(frequencies, fit.defocus_u, fit.defocus_v, fit.defocus_angle, phase_shift=fit.phase_shift, **OPTICS)[0]
        np.testing.assert_allclose(-found.numpy(), wanted, atol=2e-3)


@pytest.mark.parametrize(("version", "more"), [("4.1.5", ""), ("4.1.14", ""), ("5.0.2", " 0.0 0.0 0.0")])
def test_versions_with_more_columns_are_read_alike(tmp_path: Path, version: str, more: str) -> None:
    fit = read_ctffind(ctffind(tmp_path / "a.txt", "10295.926758 10012.275391 -38.856349 0.0 0.030650 5.279412", version, more), 30)
    assert (fit.defocus_u, fit.score, fit.resolution, fit.phase_shift) == (10295.926758, 0.03065, 5.279412, 0)
    assert fit.defocus_angle == pytest.approx(180 - 38.856349)


def test_a_fit_without_rings_reaches_as_far_as_its_worst_and_a_resolution_not_told_is_none(tmp_path: Path) -> None:
    assert read_ctffind(ctffind(tmp_path / "a.txt", "10000 9000 5 0 0.01 inf"), 25).resolution == 25
    assert math.isnan(read_ctffind(ctffind(tmp_path / "a.txt", "10000 9000 5 0 0.01 0.0"), 25).resolution)


def test_a_log_of_gctf_without_phase_shift_and_without_average(tmp_path: Path) -> None:
    path = gctf(tmp_path / "a.log", "24401.23    21649.58      34.52    0.180863")
    fit = read_gctf(path)
    assert (fit.defocus_u, fit.defocus_v, fit.defocus_angle, fit.phase_shift) == (24401.23, 21649.58, 34.52, 0)
    assert (fit.score, fit.resolution) == (0.180863, 3.464)
    path.write_text("24401.23 21649.58 34.52 0.18 Final Values\n")
    assert math.isnan(read_gctf(path).resolution)


def test_averages_along_rings_are_rows_three_to_five(tmp_path: Path) -> None:
    frequency = np.linspace(0, 0.5, 11)
    rows = [frequency, frequency + 1, frequency + 2, frequency + 3, np.where(frequency > 0.44, np.nan, frequency), frequency]
    (tmp_path / "a.txt").write_text("# a\n" + "\n".join(" ".join(f"{value:.6f}" for value in row) for row in rows))
    curves = read_ring_profile(tmp_path / "a.txt")
    np.testing.assert_allclose(curves.frequency, frequency[1:9])
    np.testing.assert_allclose(curves.profile, curves.frequency + 2)
    np.testing.assert_allclose(curves.fit, curves.frequency + 3)
    np.testing.assert_allclose(curves.correlation, curves.frequency)


@pytest.mark.parametrize("text", ["", "# only a head\n", "1 2 3\n", "1 2 3 4 5 6 seven\n", "1 nan 3 4 5 6 7\n", "1 2 3 4 5 6 7\n1 2\n"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    for read in (lambda: read_ctffind(path, 30), lambda: read_gctf(path), lambda: read_ring_profile(path)):
        with pytest.raises(InputError, match=r"a\.txt: "):
            read()
    with pytest.raises(InputError, match="none"):
        read_gctf(tmp_path / "none")
