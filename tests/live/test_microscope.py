"""The simulated microscope sends what it planned."""

from pathlib import Path

import numpy as np

from firn.simulate.microscope import Habits, deliver, plan_arrivals


def sources(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"m{number:02d}.tif" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * (100 + number))
    return paths


def test_bad_late_and_paused_movies_come_as_told(tmp_path: Path) -> None:
    habits = Habits(interval=10, bad=0.3, pauses=((5, 100.0),), late=2, lateness=1000, strays=4)
    planned = plan_arrivals(sources(tmp_path / "ready", 20), habits, np.random.default_rng(1))
    movies = [arrival for arrival in planned if arrival.kind != "stray"]
    assert len(movies) == 20
    assert sum(arrival.kind != "good" for arrival in movies) == 6
    assert sum(arrival.time >= 1000 for arrival in movies) == 2
    assert all(arrival.kind == "good" for arrival in movies if arrival.time >= 1000)
    assert not [arrival for arrival in movies if 40 < arrival.time < 150]
    assert len({arrival.target for arrival in planned}) == len(planned) == 24
    assert planned == plan_arrivals(sorted((tmp_path / "ready").iterdir()), habits, np.random.default_rng(1))


def test_files_grow_and_good_ones_arrive_whole(tmp_path: Path) -> None:
    ready = sources(tmp_path / "ready", 6)
    habits = Habits(interval=1, growth=2, steps=4, bad=0.5)
    planned = plan_arrivals(ready, habits, np.random.default_rng(1))
    slept: list[float] = []
    sizes: list[dict[str, int]] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        sizes.append({path.name: path.stat().st_size for path in (tmp_path / "raw").rglob("*.tif")})

    sent = list(deliver(planned, tmp_path / "raw", habits, sleep))
    assert len(sent) == 6
    good = {Path(entry["target"]).name: Path(entry["source"]) for entry in sent if entry["kind"] == "good"}
    for entry in sent:
        content = (tmp_path / "raw" / entry["target"]).read_bytes()
        assert (content == Path(entry["source"]).read_bytes()) == (entry["kind"] == "good")
    assert any(0 < size < good[name].stat().st_size for look in sizes for name, size in look.items() if name in good)
