"""Whose fault it is that a file cannot be read, and what is begun while a disk is at fault."""

import errno
import os
from pathlib import Path

import pytest

from firn.errors import ExposureError, MachineError
from firn.formats.storage import away, blame_storage
from firn.live import layout
from firn.live.storage import mark_results, movies_away, results_away
from firn.runtime.atomic import write_text


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raw/grid").mkdir(parents=True)
    Path("raw/grid/a.tif").touch()


def fault(number: int | None) -> ExposureError:
    """What a reader raises when the system gives an error of this number, or none."""
    error = ExposureError("UNREADABLE", "raw/grid/a.tif: cannot be read")
    error.__cause__ = OSError(number, os.strerror(number)) if number is not None else ValueError("bad strip")
    return error


def test_a_file_that_was_deleted_is_gone_and_one_whose_folder_is_gone_or_empty_is_away() -> None:
    assert away(["raw/grid/a.tif", "raw/grid/deleted.tif"]) is None
    assert away(["raw/grid/a.tif", "raw/other/b.tif"]) == "raw/other/b.tif"
    Path("raw/grid/a.tif").unlink()
    assert away(["raw/grid/a.tif"]) == "raw/grid/a.tif"


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.ENOENT])
def test_a_server_that_did_not_answer_and_a_file_that_is_back_are_no_fault_of_the_movie(number: int) -> None:
    with pytest.raises(MachineError, match=r"raw/grid/a.tif: was away while it was read"):
        blame_storage("raw/grid/a.tif", fault(number))


@pytest.mark.parametrize("number", [None, errno.EIO, errno.EACCES])
def test_damage_is_the_file_s_own_fault(number: int | None) -> None:
    blame_storage("raw/grid/a.tif", fault(number))


def test_results_are_away_when_they_are_gone_and_when_others_came_up_in_their_place() -> None:
    assert results_away() == ""
    mark_results()
    mark_results()
    assert results_away() == ""
    Path("results").rename("kept")
    assert "results is not there" in results_away()
    Path("results/motion").mkdir(parents=True)
    assert "another folder" in results_away()
    Path("results/motion").rmdir()
    Path("results").rmdir()
    Path("kept").rename("results")
    assert results_away() == ""


@pytest.mark.parametrize("pattern", ["raw/grid/*.tif", "raw/*/a.tif", "raw/**/*.tif"])
def test_a_watched_folder_is_away_only_when_movies_came_from_it(pattern: str) -> None:
    assert movies_away([pattern], ["raw/grid/a.tif"]) == ""
    Path("raw").rename("elsewhere")
    assert movies_away([pattern], []) == ""
    assert "is missing or empty" in movies_away([pattern], ["raw/grid/a.tif"])


def test_what_does_not_fit_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    layout.append_whole(Path("log"), "one\n")
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_: object) -> None:
        raise full

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(Path("state.json"), "{}")
    assert sorted(path.name for path in Path().iterdir()) == ["log", "raw"]
    assert Path("log").read_text() == "one\n"
