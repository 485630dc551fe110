"""Patterns of names find what the shell would, and come to an end whatever links there are."""

import glob
import os
from pathlib import Path

import pytest

from firn.formats.patterns import matching


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("raw/m.tif", "raw/a/m.tif", "raw/a/b/n.tif", "raw/[x]/m.tif", "raw/.hidden/m.tif", "raw/a/.m.tif", "other/m.tif"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


@pytest.mark.parametrize(
    "pattern",
    [
        "raw/*.tif",
        "raw/**/*.tif",
        "**/m.tif",
        "raw/**/b/*",
        "raw/**",
        "*/**/a/**/*.tif",
        "raw/[[]x]/**/*",
        "none/**/*",
        "raw/a/../**/m.tif",
    ],
)
def test_patterns_find_what_globbing_finds(pattern: str) -> None:
    def files(names: object) -> set[str]:
        return {os.path.normpath(name) for name in names if Path(name).is_file()}  # type: ignore[attr-defined]

    assert files(matching(pattern)) == files(glob.glob(pattern, recursive=True))
    absolute = os.path.join(glob.escape(os.getcwd()), pattern)
    assert files(matching(absolute)) == files(glob.glob(absolute, recursive=True))


def test_links_in_circles_end_and_linked_folders_are_looked_into() -> None:
    for name in ("raw/up", "raw/a/up", "raw/a/b/up"):
        Path(name).symlink_to("..")
    Path("raw/self").symlink_to("self")
    Path("raw/nowhere").symlink_to("no/where")
    Path("raw/far").symlink_to(Path("other").absolute())
    found = {os.path.realpath(name) for name in matching("raw/**/*.tif")}
    assert found == {os.path.realpath(name) for name in ("raw/m.tif", "raw/a/m.tif", "raw/a/b/n.tif", "raw/[x]/m.tif", "other/m.tif")}
