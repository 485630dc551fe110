"""The pattern that a wrong gain leaves in all micrographs is found, and nothing is where they share nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.formats.tables import write_table
from firn.live import layout, pattern
from firn.live.batch_tables import BatchTables
from firn.live.trends import pattern_alarm
from firn.report.thumbnails import write_thumbnail

SIDE = 128


def told() -> str:
    return pattern_alarm(layout.read_json(layout.PATTERN, {}).get("contrast", 0.0), held=False)


def batch(number: int, chance: np.random.Generator, shared: np.ndarray) -> Path:
    """A batch of ten pictures of noise with something that they share."""
    folder = Path(f"results/pre/batches/{number:04d}")
    names = [f"{folder}/thumbnails/{one}.png" for one in range(10)]
    for name in names:
        write_thumbnail(Path(name), chance.normal(size=(SIDE, SIDE)) + shared, SIDE)
    write_table(folder / "exposures.star", pd.DataFrame({"exposure_id": names, "thumbnail": names}), "exposures")
    return folder


@pytest.mark.parametrize(("strength", "alarms"), [(0.0, False), (0.05, False), (0.15, True)])
def test_a_pattern_that_fifty_micrographs_share_raises_an_alarm(tmp_path, monkeypatch, strength, alarms):
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(1)
    shared = strength * chance.normal(size=(SIDE, SIDE))
    for number in range(5):
        assert told() == ""
        pattern.add_pictures(BatchTables([batch(number, chance, shared)]))
    assert bool(told()) == alarms


def test_shades_that_change_slowly_are_no_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(2)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for number in range(5):
        pattern.add_pictures(BatchTables([batch(number, chance, 3 * np.sin(3 * x) * np.cos(2 * y))]))
    assert told() == ""


def test_the_contrast_is_that_of_what_is_shared():
    chance = np.random.default_rng(3)
    shared, noise = 0.2 * chance.normal(size=(300, 300)), chance.normal(size=(2, 25, 300, 300))
    assert pattern.contrast((noise + shared).mean(1), 25) == pytest.approx(0.2, rel=0.03)


def test_a_damaged_state_and_pictures_of_another_size_begin_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pattern.SUMS.parent.mkdir()
    pattern.SUMS.write_bytes(b"no archive")
    chance = np.random.default_rng(4)
    pattern.add_pictures(BatchTables([batch(1, chance, np.zeros((SIDE, SIDE)))]))
    folder = Path("results/pre/batches/0002")
    write_thumbnail(folder / "a.png", chance.normal(size=(64, 64)), 64)
    write_table(folder / "exposures.star", pd.DataFrame({"exposure_id": ["a"], "thumbnail": [str(folder / "a.png")]}), "exposures")
    pattern.add_pictures(BatchTables([folder, Path("results/none")]))
    with np.load(pattern.SUMS) as kept:
        assert kept["count"] == 1
        assert kept["sums"].shape == (2, 62, 62)
