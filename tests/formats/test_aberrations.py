"""Aberrations in tables: they live in the optics block, survive joining, and are read by group."""

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.aberrations import aberrated_groups, coefficient_text, coefficients, even_coefficients, optics_groups
from firn.formats.star import read_star, write_star
from firn.formats.tables import concatenate, read_table, write_table


def particles(count: int, **columns: object) -> pd.DataFrame:
    names = [f"{number + 1:06d}@a.mrcs" for number in range(count)]
    table = pd.DataFrame({"image": names, "defocus_u": 1e4, "defocus_v": 1e4, "defocus_angle": 0.0})
    optics = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "image_pixel_size": 1.2}
    return table.assign(**optics, **columns)


def test_relions_columns_are_read_and_written_back_in_the_optics_block(tmp_path):
    optics = {"rlnOpticsGroupName": "a", "rlnOpticsGroup": 1, "rlnVoltage": 300.0, "rlnSphericalAberration": 2.7}
    optics |= {"rlnAmplitudeContrast": 0.1, "rlnImagePixelSize": 1.2, "rlnBeamTiltX": 0.3, "rlnBeamTiltY": -0.2}
    optics |= {"rlnOddZernike": "[0.1,0.2,3,0,0,-4]", "rlnEvenZernike": "[0,0,0,0,7.5]"}
    optics |= {"rlnMagMat00": 1.01, "rlnMagMat01": 0.002, "rlnMagMat10": 0.001, "rlnMagMat11": 0.99}
    rows = pd.DataFrame({"rlnImageName": ["000001@a.mrcs", "000002@a.mrcs"], "rlnOpticsGroup": 1})
    write_star(tmp_path / "in.star", {"optics": pd.DataFrame([optics]), "particles": rows})
    table = read_table(tmp_path / "in.star", "particles")
    (group,) = optics_groups(table)
    assert group.tilt == (0.3, -0.2)
    np.testing.assert_allclose(group.odd, [0.1, 0.2, 3, 0, 0, -4])
    np.testing.assert_allclose(group.magnification, [[1.01, 0.002], [0.001, 0.99]])
    np.testing.assert_allclose(even_coefficients(table), [[0, 0, 0, 0, 7.5]] * 2)
    write_table(tmp_path / "out.star", table, "particles")
    blocks = read_star(tmp_path / "out.star")
    assert list(blocks["particles"].columns) == ["rlnImageName", "rlnOpticsGroup"]
    assert blocks["optics"].iloc[0][list(optics)].to_dict() == optics | {"rlnOpticsGroupName": "a"}


def test_groups_without_aberrations_have_none_after_joining(tmp_path):
    write_table(tmp_path / "one.star", particles(2, optics_name="one"), "particles")
    changed = particles(3, optics_name="two", beam_tilt_x=0.5, beam_tilt_y=0.0, odd_zernike="[0,0,1,0,0,2]", magnification_xx=1.01)
    write_table(tmp_path / "two.star", changed, "particles")
    joined = concatenate([tmp_path / "one.star", tmp_path / "two.star"], "particles")
    write_table(tmp_path / "both.star", joined, "particles")
    groups = optics_groups(read_table(tmp_path / "both.star", "particles"))
    assert [group.tilt for group in groups] == [(0.0, 0.0), (0.5, 0.0)]
    assert not groups[0].odd.any()
    np.testing.assert_array_equal(groups[0].magnification, np.eye(2))
    assert "nan" not in (tmp_path / "both.star").read_text()
    assert [list(group.rows) for group in aberrated_groups(joined)] == [[2, 3, 4]]


def test_lists_are_spelled_as_relion_does():
    values = np.array([0.0, -1.25, 3e-7])
    np.testing.assert_allclose(coefficients(coefficient_text(values)), values)
    assert len(coefficients("")) == 0
    with pytest.raises(InputError, match="not a list of Zernike coefficients"):
        coefficients("[1,two]")


def test_a_magnification_without_inverse_is_refused():
    with pytest.raises(InputError, match="no inverse"):
        optics_groups(particles(1, magnification_xx=0.0, magnification_yy=1.0))
