"""Motion STAR files keep the field exactly, and RELION's polynomial exactly where the motion is one."""

from pathlib import Path

import numpy as np

from firn.formats.motion_star import MovieInfo, SplineField, fit_polynomial, polynomial_terms, read_motion, write_motion

INFO = MovieInfo("raw/a movie.tif", None, 64, 48, 5, 1, 1.0, 0.8, 1.5, 0.0, 300.0)


def test_shifts_and_field_come_back(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    shifts = generator.normal(size=(5, 2))
    field = SplineField(generator.normal(size=(6, 4, 5, 2)), np.linspace(0, 1, 5))
    write_motion(tmp_path / "m.star", INFO, shifts, field, np.zeros((5, 3, 3, 2)))
    read_shifts, read_field, pixel_size = read_motion(tmp_path / "m.star")
    assert pixel_size == 0.8
    np.testing.assert_allclose(read_shifts, shifts, atol=2e-6)
    assert read_field is not None
    np.testing.assert_allclose(read_field.coefficients, field.coefficients, atol=2e-6)
    np.testing.assert_allclose(read_field.times, field.times, atol=2e-6)


def test_a_movie_without_local_motion_says_so(tmp_path: Path) -> None:
    write_motion(tmp_path / "m.star", INFO, np.zeros((5, 2)), None, None)
    assert read_motion(tmp_path / "m.star")[1] is None
    assert "rlnMotionModelVersion" in (tmp_path / "m.star").read_text()


def test_a_motion_that_is_relions_polynomial_is_fitted_exactly() -> None:
    generator = np.random.default_rng(3)
    z, y, x = np.meshgrid(np.arange(6.0), np.linspace(-0.5, 0.5, 7), np.linspace(-0.5, 0.5, 7), indexing="ij")
    model = generator.normal(size=(2, 18))
    local = np.stack((polynomial_terms(z, y, x) @ model[1], polynomial_terms(z, y, x) @ model[0]), axis=-1)
    np.testing.assert_allclose(fit_polynomial(local), model.ravel(), atol=1e-8)


def test_the_polynomial_has_no_motion_in_the_first_frame() -> None:
    assert not polynomial_terms(np.zeros(1), np.array([0.3]), np.array([-0.2])).any()
