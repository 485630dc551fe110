"""Every byte of a run is counted once, under the job that made it and what it is."""

from pathlib import Path

import pytest

from firn.upkeep.sizes import Share, measure, size_table, spoken_bytes, totals

FILES = {
    "results/motion/batches/0001/micrographs/a.mrc": 100,
    "results/motion/batches/0001/thumbnails/a.png": 10,
    "results/motion/exposures.star": 5,
    "results/map/map.mrc": 200,
    "results/map/rounds/0001/map.mrc": 50,
    "results/.map.state/poses.npz": 7,
    "results/report.html": 30,
    "raw/a.tif": 1000,
    "logs/motion.log": 3,
    "session.yaml": 2,
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name, size in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "results/motion/link.mrc").symlink_to(tmp_path / "raw/a.tif")
    (tmp_path / "elsewhere").symlink_to("/usr")
    return tmp_path


def test_each_file_counts_once_and_links_count_nothing(run: Path) -> None:
    shares = measure(run)
    assert sum(share.bytes for share in shares) == sum(FILES.values())
    assert sum(share.files for share in shares) == len(FILES)


def test_files_are_told_by_job_and_by_kind(run: Path) -> None:
    shares = measure(run)
    for share in (
        Share("motion", "micrographs", 100, 1), Share("motion", "figures", 10, 1), Share("motion", "tables", 5, 1), Share("map", "maps", 200, 1),
        Share("map", "rounds", 50, 1), Share("map", "unfinished", 7, 1), Share("(raw)", "movies", 1000, 1), Share("(results)", "reports", 30, 1),
    ):  # fmt: skip
        assert share in shares
    assert totals(shares, "job")["map"] == 257
    assert list(totals(shares, "kind").values()) == sorted(totals(shares, "kind").values(), reverse=True)


def test_the_table_ends_with_the_sum(run: Path) -> None:
    assert size_table(measure(run)).splitlines()[-1].split() == ["1.4", "kB", "in", "all"]


@pytest.mark.parametrize(("size", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.5e12, "2.5 TB"), (3e18, "3000.0 PB")])
def test_sizes_are_spoken(size: float, words: str) -> None:
    assert spoken_bytes(size) == words
