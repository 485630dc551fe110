"""Results of 3DFSC: the directions it samples, its tables, what it says of the sphericity, and what is no table of its."""

import math
from pathlib import Path

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.threedfsc import directions, read_directional, read_global, sphericity_said


def test_directions_are_unit_vectors_with_the_second_angle_running_first() -> None:
    axes = directions()
    assert axes.shape == (100, 3)
    assert np.allclose(np.linalg.norm(axes, axis=1), 1)
    assert axes[0].tolist() == pytest.approx([math.sin(1) * math.cos(1), math.sin(1) * math.sin(1), math.cos(1)])
    assert axes[1].tolist() == pytest.approx([math.sin(1) * math.cos(37), math.sin(1) * math.sin(37), math.cos(1)])
    assert axes[10, 2] == pytest.approx(math.cos(37))


def test_tables_come_back_by_direction_and_with_frequencies_in_whole_units(tmp_path: Path) -> None:
    table = np.random.default_rng(1).normal(size=(7, 100))
    np.savetxt(tmp_path / "raw.csv", table, delimiter=",")
    assert np.allclose(read_directional(tmp_path / "raw.csv"), table.T)
    (tmp_path / "global.csv").write_text("normalised,inverse,FSC\n0.1,0.05,0.9\n0.2,0.1,0.3\n")
    frequency, curve = read_global(tmp_path / "global.csv", 2.0)
    assert frequency.tolist() == [0.05, 0.1]
    assert curve.tolist() == [0.9, 0.3]


def test_the_sphericity_is_the_one_said_first() -> None:
    lines = [
        "Analysis Step 02",
        "Sphericity is 0.87 out of 1 at threshold 0.50. 1 represents a perfect sphere.",
        "Sphericity is 0.10 out of 1 at threshold 0.90.",
    ]
    assert sphericity_said(lines) == 0.87
    with pytest.raises(InputError, match="3DFSC ended without telling the sphericity"):
        sphericity_said(lines[:1])


@pytest.mark.parametrize(
    ("text", "message"),
    [("1,2,3\n", "has 3 columns"), ("", "holds no table"), ("a,b\n", "cannot be read as a table of 3DFSC"), ("1,2\n3\n", "cannot be read")],
)
def test_what_is_no_table_is_told_in_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_directional(tmp_path / "raw.csv")
    with pytest.raises(InputError, match="cannot be read as a table of 3DFSC"):
        read_directional(tmp_path / "none.csv")
