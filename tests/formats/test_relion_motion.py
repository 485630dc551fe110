"""RELION's STAR of a movie's motion: frames that were left out are none of the path."""

from pathlib import Path

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.relion_motion import read_relion_motion, write_movie_list
from firn.formats.star import read_star

HEAD = "data_general\n\n_rlnImageSizeZ 4\n_rlnMicrographOriginalPixelSize 1.5\n\n"
SHIFTS = "data_global_shift\n\nloop_\n_rlnMicrographFrameNumber #1\n_rlnMicrographShiftX #2\n_rlnMicrographShiftY #3\n"
LOCAL = "\ndata_local_motion_model\n\nloop_\n_rlnMotionModelCoeffsIdx #1\n_rlnMotionModelCoeff #2\n"


def test_frames_that_were_left_out_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.star"
    rows = "1 -9999.0 -9999.0\n2 0.0 0.0\n3 -2.0 1.0\n4 -9999.0 -9999.0\n"
    path.write_text(HEAD + SHIFTS + rows + LOCAL + "".join(f"{number} {number / 4}\n" for number in range(36)))
    motion = read_relion_motion(path)
    assert (motion.frames, motion.first) == (4, 2)
    np.testing.assert_array_equal(motion.shifts, [[0, 0], [1, -2]])
    assert motion.model is not None
    np.testing.assert_array_equal(motion.model, np.arange(36) / 4)


@pytest.mark.parametrize("rows", ["1 -9999.0 -9999.0\n", "1 nan 0.0\n", ""])
def test_a_file_without_shifts_is_one_sentence(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "m.star"
    path.write_text(HEAD + (SHIFTS + rows if rows else "data_other\n\n_rlnVoltage 300\n"))
    with pytest.raises(InputError, match=r"m\.star"):
        read_relion_motion(path)


def test_a_list_of_a_movie_tells_its_optics(tmp_path: Path) -> None:
    write_movie_list(tmp_path / "movies.star", "raw/movie.tiff", 0.83, 200.0, 1.4, 0.07)
    blocks = read_star(tmp_path / "movies.star")
    assert blocks["movies"].iloc[0].to_dict() == {"rlnMicrographMovieName": "raw/movie.tiff", "rlnOpticsGroup": 1}
    told = blocks["optics"].iloc[0]
    names = ("rlnMicrographOriginalPixelSize", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
    assert [float(told[name]) for name in names] == [0.83, 200.0, 1.4, 0.07]
