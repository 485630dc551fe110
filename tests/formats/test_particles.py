"""Particle images by row, whichever stacks they lie in."""

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_stack
from firn.formats.particles import common_box, iterate_images, load_images, read_particles
from firn.formats.tables import write_table


@pytest.fixture
def table(tmp_path) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    stacks = {name: rng.standard_normal((4, 6, 6)).astype(np.float32) for name in "ab"}
    for name, images in stacks.items():
        write_stack(tmp_path / f"{name}.mrcs", images, 2.0)
    order = [("b", 2), ("a", 0), ("b", 0), ("a", 3), ("a", 0)]
    names = [f"{number + 1:06d}@{tmp_path}/{name}.mrcs" for name, number in order]
    ctf = {
        "defocus_u": 1e4,
        "defocus_v": 1e4,
        "defocus_angle": 0.0,
        "voltage_kv": 300.0,
        "cs_mm": 2.7,
        "amplitude_contrast": 0.1,
        "image_pixel_size": 2.0,
    }
    return pd.DataFrame({"image": names}).assign(**ctf), np.stack([stacks[name][number] for name, number in order])


def test_images_come_in_the_order_of_the_table(table):
    rows, images = table
    assert np.array_equal(load_images(rows), images)
    assert np.array_equal(load_images(rows.iloc[::-1]), images[::-1])
    assert load_images(rows.iloc[:0]).size == 0


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_batches_hold_every_row_once(table, size):
    rows, images = table
    numbers, blocks = zip(*iterate_images(rows, size), strict=True)
    assert np.concatenate(numbers).tolist() == list(range(5))
    assert np.array_equal(np.concatenate(blocks), images)


def test_a_phase_shift_of_nothing_is_filled_in(table, tmp_path):
    write_table(tmp_path / "p.star", table[0], "particles")
    assert read_particles(tmp_path / "p.star")["phase_shift"].tolist() == [0.0] * 5


def test_a_missing_ctf_is_named(table, tmp_path):
    write_table(tmp_path / "p.star", table[0].drop(columns="defocus_v"), "particles")
    with pytest.raises(InputError, match="_rlnDefocusV"):
        read_particles(tmp_path / "p.star")


def test_the_box_is_that_of_all_stacks_or_an_error(table, tmp_path):
    rows, _ = table
    assert common_box(rows) == (6, 2.0)
    write_stack(tmp_path / "b.mrcs", np.zeros((4, 8, 8)), 2.0)
    with pytest.raises(InputError, match="6 x 6, 8 x 8"):
        common_box(rows)
    with pytest.raises(InputError, match="different pixel sizes"):
        common_box(rows.assign(image_pixel_size=[1.0, 2, 2, 2, 2]))
