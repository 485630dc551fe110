"""Waking up when a folder changes, and only then."""

import os
import time
from pathlib import Path

import pytest

from firn.live.stirring import fixed_part, folders_of, rest, times_of


def test_folders_from_the_fixed_part_of_a_pattern_down_to_each_file_are_heeded() -> None:
    files = ["raw/g1/Data/a.tif", "raw/g1/Data/b.tif", "raw/g2/c.tif"]
    assert folders_of(["raw/**/*.tif"], files) == {"raw", "raw/g1", "raw/g1/Data", "raw/g2"}
    assert folders_of(["/data/run/*/*.tif"], ["/data/run/g1/a.tif"]) == {"/data/run", "/data/run/g1"}
    assert folders_of(["*.tif"], ["a.tif"]) == {"."}


@pytest.mark.parametrize(
    ("pattern", "fixed"), [("raw/**/*.tif", "raw"), ("/a/b[12]/c/*.tif", "/a"), ("*.tif", "."), ("../x/y.tif", "../x")]
)
def test_the_fixed_part_has_no_wildcard(pattern: str, fixed: str) -> None:
    assert fixed_part(pattern) == fixed


def test_a_file_that_comes_goes_or_brings_its_folder_ends_the_rest(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for change in ((old / "a").touch, (old / "a").unlink, new.mkdir):
        os.utime(old, (1, 1))
        before = times_of([str(old), str(new)])
        change()
        rest(before, float("inf"), 0.01)


def test_the_rest_is_taken_where_nothing_comes(tmp_path: Path) -> None:
    started = time.monotonic()
    rest(times_of([str(tmp_path), str(tmp_path / "none")]), 0.05, 0.02)
    assert time.monotonic() - started >= 0.05
