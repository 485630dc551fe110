"""Raw data that moved are found again, nothing else changes, and nothing has to run again."""

import os
from pathlib import Path

import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.tables import read_table, write_table
from firn.upkeep.links import broken_links, move_raw


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose movies lay in `old`, by a link to the folder, a link to a file and by absolute names, and lie in `new` now."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new/a.tif").write_text("movie")
    run, old = tmp_path / "run", tmp_path / "old"
    (run / "results/movies").mkdir(parents=True)
    (run / "live/batches/movies").mkdir(parents=True)
    (run / "raw").symlink_to(old)
    (run / "one.tif").symlink_to("../old/a.tif")
    (run / "other").symlink_to("/usr")
    table = pd.DataFrame({"exposure_id": ["e1", "e2"], "movie": [f"{old}/a.tif", f"{old}er/b.tif"]})
    write_table(run / "results/movies/exposures.star", table, "movies")
    (run / "live/batches/movies/0001.json").write_text(f'{{"files": [{{"path": "{old}/a.tif"}}]}}')
    (run / "results/movies/job.json").write_text(f'{{"settings": {{"files": "{old}/*.tif"}}}}')
    for path in (run / "results/movies/exposures.star", run / "live/batches/movies/0001.json"):
        os.utime(path, ns=(10**18, 10**18))
    return run


def test_links_and_tables_lead_to_the_new_place_and_keep_their_times(run: Path) -> None:
    assert [path.name for path in broken_links(run)] == ["one.tif", "raw"]
    moved = move_raw(run, run.parent / "old", run.parent / "new")
    assert broken_links(run) == []
    assert (run / "raw/a.tif").read_text() == (run / "one.tif").read_text() == "movie"
    table = read_table(run / "results/movies/exposures.star", "movies")
    assert list(table["movie"]) == [f"{run.parent}/new/a.tif", f"{run.parent}/older/b.tif"]
    assert list(table["exposure_id"]) == ["e1", "e2"]
    assert f"{run.parent}/new/a.tif" in (run / "live/batches/movies/0001.json").read_text()
    assert (run / "results/movies/exposures.star").stat().st_mtime_ns == 10**18
    assert (len(moved.links), len(moved.tables), moved.missing) == (2, 2, ())


def test_records_of_what_was_asked_for_and_other_links_stay(run: Path) -> None:
    move_raw(run, run.parent / "old", run.parent / "new")
    assert "old/*.tif" in (run / "results/movies/job.json").read_text()
    assert os.readlink(run / "other") == "/usr"


def test_a_dry_run_tells_the_same_and_changes_nothing(run: Path) -> None:
    before = (run / "results/movies/exposures.star").read_text()
    told = move_raw(run, run.parent / "old", run.parent / "new", dry=True)
    assert (run / "results/movies/exposures.star").read_text() == before
    assert len(broken_links(run)) == 2
    assert move_raw(run, run.parent / "old", run.parent / "new") == told


def test_files_that_did_not_come_along_are_named(run: Path) -> None:
    (run.parent / "new/a.tif").unlink()
    assert move_raw(run, run.parent / "old", run.parent / "new").missing == (f"{run.parent}/new/a.tif",)


@pytest.mark.parametrize(("old", "new", "words"), [("old", "nowhere", "is no folder"), ("never", "new", "no link and no table")])
def test_a_move_that_is_none_is_refused(run: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        move_raw(run, run.parent / old, run.parent / new)
