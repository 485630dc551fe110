"""A map seen from one side is told, and even views never are, whatever the symmetry."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from firn.formats.tables import write_table
from firn.live.session import Session
from firn.live.views import EVEN, largest_share, views_sentence


def even(count: int, order: int, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Views even over the asymmetric unit of a cyclic group."""
    chance = np.random.default_rng(seed)
    return chance.uniform(0, 360 / order, count), np.degrees(np.arccos(chance.uniform(-1, 1, count)))


@pytest.mark.parametrize("order", [1, 2, 7])
def test_even_views_have_the_share_of_the_cone(order: int):
    rot, tilt = even(20_000, order)
    share = largest_share(rot, tilt, order)
    assert EVEN <= share < 3 * EVEN


def test_views_within_the_cone_are_all_counted():
    chance = np.random.default_rng(3)
    rot, tilt = even(2000, 1)
    tilt[:1400] = 90 + chance.normal(0, 2, 1400)
    rot[:1400] = 40 + chance.normal(0, 2, 1400)
    assert largest_share(rot, tilt, 1) == pytest.approx(0.7 + 0.3 * 2 * EVEN, abs=0.02)


def test_opposite_views_are_one():
    rot, tilt = np.array([10.0, 190.0] * 50), np.array([60.0, 120.0] * 50)
    assert largest_share(rot, tilt, 1) == 1.0


def leave_round(folder: Path, tilt: np.ndarray, symmetry: str = "C1") -> Path:
    rot = np.random.default_rng(1).uniform(0, 360, len(tilt))
    write_table(folder / "particles.star", pd.DataFrame({"rot": rot, "tilt": tilt, "psi": 0.0}), "particles")
    (folder / "job.json").write_text(json.dumps({"settings": {"symmetry": symmetry}}))
    return folder


def test_a_map_seen_from_the_top_only_is_told_in_words(tmp_path: Path):
    assert "100 % of the particles of map are seen from about one direction" in views_sentence(
        "map", leave_round(tmp_path, np.full(300, 3.0))
    )
    assert views_sentence("map", leave_round(tmp_path, even(300, 1)[1])) == ""


def test_icosahedral_views_in_their_small_unit_are_no_alarm(tmp_path: Path):
    chance = np.random.default_rng(5)
    assert views_sentence("map", leave_round(tmp_path, np.degrees(np.arccos(chance.uniform(np.cos(np.radians(20)), 1, 500))), "I1")) == ""


def test_a_round_without_poses_tells_nothing(tmp_path: Path):
    assert views_sentence("map", tmp_path) == ""


def test_a_session_raises_the_alarm_for_the_latest_round_of_a_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("results/map/rounds/0001")
    table = pd.DataFrame({"image": [f"{number:06d}@s.mrcs" for number in range(1, 61)], "rot": 10.0, "tilt": 20.0, "psi": 0.0})
    write_table(folder / "particles.star", table, "particles")
    Path("live").mkdir()
    columns = "finished,job,role,round,state,particles,kept,resolution,seconds,tries,sentence,folder"
    Path("live/rounds.csv").write_text(f"{columns}\n1.0,map,refine,1,done,60,,8.0,1.0,1,,{folder}\n")
    session = Session.resume({}, 100.0, [])
    session.tell(100.0, "running")
    assert "100 % of the particles of map are seen from about one direction" in Path("live/alarms.jsonl").read_text()
