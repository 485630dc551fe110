"""When a file counts as a complete movie."""

import os
from pathlib import Path

import numpy as np
import pytest

from firn.errors import ExposureError
from firn.live.watch import Seen, check_movie, list_files, settled, usual_shape, watch
from firn.simulate.write_movie import write_mrc_movie, write_tiff_movie


def movie(path: Path, frames: int = 5, size: int = 32) -> Path:
    generator = np.random.default_rng(frames)
    write_tiff_movie(path, [generator.poisson(3, (size, size)).astype(np.uint8) for _ in range(frames)])
    return path


def test_a_file_settles_only_after_its_size_stayed_the_same() -> None:
    seen = watch({}, {"a": (10, 1.0)}, 100.0)
    assert settled(seen, 105.0, 10) == []
    assert settled(watch(seen, {"a": (10, 1.0)}, 110.0), 110.0, 10) == ["a"]
    grown = watch(seen, {"a": (11, 1.0)}, 109.0)
    assert settled(grown, 118.0, 10) == []
    assert grown["a"].found == 100.0


def test_a_file_that_is_touched_settles_again() -> None:
    seen = watch({"a": Seen(10, 1.0, 100.0, 100.0)}, {"a": (10, 2.0)}, 120.0)
    assert seen["a"].since == 120.0


def test_a_file_that_vanishes_is_watched_no_more() -> None:
    assert watch({"a": Seen(10, 1.0, 100.0, 100.0)}, {}, 120.0) == {}


def test_a_clock_far_ahead_on_the_files_side_does_not_matter() -> None:
    seen = watch({}, {"a": (10, 4e9)}, 100.0)
    assert settled(watch(seen, {"a": (10, 4e9)}, 111.0), 111.0, 10) == ["a"]


def test_known_files_folders_and_pipes_are_not_listed(tmp_path: Path) -> None:
    movie(tmp_path / "a.tif")
    movie(tmp_path / "b.tif")
    (tmp_path / "folder.tif").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    assert set(list_files([f"{tmp_path}/*.tif"], {str(tmp_path / "a.tif")})) == {str(tmp_path / "b.tif")}


def test_most_movies_decide_what_is_usual_but_only_when_there_are_enough() -> None:
    assert usual_shape({"5 32 32": 2}) is None
    assert usual_shape({"5 32 32": 2, "3 32 32": 2}) is None
    assert usual_shape({"5 32 32": 9, "3 32 32": 2}) == (5, 32, 32)


def test_a_movie_that_still_grows_is_a_valid_shorter_one_and_not_taken(tmp_path: Path) -> None:
    path = str(movie(tmp_path / "a.tif", frames=3))
    assert check_movie(path, 40, 2, None).frames == 3
    with pytest.raises(ExposureError, match="has 3 frames, but most others have 5"):
        check_movie(path, 40, 2, (5, 32, 32))


def test_frames_recorded_beside_the_movie_count_before_anything_else_is_known(tmp_path: Path) -> None:
    path = movie(tmp_path / "a.tif", frames=3)
    (tmp_path / "a.tif.mdoc").write_text("[FrameSet = 0]\nNumSubFrames = 5\n")
    with pytest.raises(ExposureError, match="tells of 5"):
        check_movie(str(path), 40, 2, None)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_no_part_of_an_mrc_movie_is_taken(tmp_path: Path, share: float) -> None:
    whole = tmp_path / "whole.mrc"
    write_mrc_movie(whole, [np.full((32, 32), 7.0) for _ in range(5)], 1.0)
    part = tmp_path / "part.mrc"
    part.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    with pytest.raises(ExposureError):
        check_movie(str(part), 40, 2, None)


def test_every_state_of_a_tiff_being_written_waits_until_it_is_whole(tmp_path: Path) -> None:
    content = movie(tmp_path / "whole.tif", frames=5).read_bytes()
    part = tmp_path / "part.tif"
    for length in range(0, len(content), 97):
        part.write_bytes(content[:length])
        with pytest.raises(ExposureError):
            check_movie(str(part), 40, 2, (5, 32, 32))
    part.write_bytes(content)
    assert check_movie(str(part), 40, 2, (5, 32, 32)).frames == 5


def test_a_name_with_a_line_break_is_refused() -> None:
    with pytest.raises(ExposureError, match="line break"):
        check_movie("raw/a\nb.tif", 40, 2, None)
