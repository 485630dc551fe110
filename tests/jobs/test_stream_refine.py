"""stream_refine: rounds go on from each other's half maps, sharpen, and keep the halves apart."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from firn.formats.fsc import fsc_table, write_fsc
from firn.formats.mrc import write_volume
from firn.formats.tables import read_table, write_table
from firn.formats.volumes import read_volume
from firn.jobs import stream_refine
from firn.kernels.fsc import fsc, resolution_at
from firn.refine.homogeneous import Iteration, Refinement
from firn.refine.state import Settings
from firn.runtime.entry import open_job
from firn.runtime.job import Job
from firn.simulate.phantom import phantom_volume
from refine_session import BOX, PHANTOM, PIXEL, write_session

SETTINGS = {"particles": "keep", "volume": "start", "initial_lowpass": 40.0, "particle_diameter": 115.0}


def round_of(particles: str, number: int, volume: str, **settings: object) -> Job:
    inputs, home = {"particles": [particles], "volume": [volume]}, Path(f"results/map/rounds/{number:04d}")
    with open_job(stream_refine.Params, SETTINGS | settings, inputs, home, "map", threads=1) as job:
        stream_refine.run(job)
    return job


def resolution_to_truth(number: int) -> float:
    volume, _ = read_volume(f"results/map/rounds/{number:04d}/map.mrc")
    return resolution_at(fsc(torch.tensor(volume), torch.tensor(phantom_volume(PHANTOM, BOX, PIXEL))), 0.5, PIXEL, BOX)


def keep_some(count: int, name: str) -> None:
    table = read_table("keep/particles.star", "particles")
    names = [f"e000000000000-{number:05d}" for number in range(len(table))]
    named = table.assign(particle_id=names)
    write_table("keep/particles.star", named, "particles")
    write_table(f"{name}/particles.star", named.iloc[:count], "particles")


def test_a_round_goes_on_sharper_with_more_particles_in_fewer_iterations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=160, snr=0.2)
    keep_some(60, "few")
    first = round_of("few", 1, "start", iterations=3)
    second = round_of("keep", 2, "results/map/rounds/0001", iterations=20, passes=2)
    assert second.metrics["iterations"]["value"] <= 2
    assert second.metrics["resolution_corrected"]["value"] < first.metrics["resolution_corrected"]["value"]
    assert resolution_to_truth(2) < resolution_to_truth(1)
    tables = [read_table(f"results/map/rounds/{number:04d}/particles.star", "particles") for number in (1, 2)]
    assert list(tables[1]["half"][:60]) == list(tables[0]["half"])


class StartedError(Exception):
    """Stands in for the refinement that would follow."""


def test_each_half_goes_on_from_its_own_map_to_where_both_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=60, snr=1.0)
    chance, folder, curve = np.random.default_rng(5), Path("former"), np.linspace(1.0, 0.0, BOX // 2 + 1)
    folder.mkdir()
    halves = [chance.normal(size=(BOX,) * 3).astype(np.float32) for _ in range(2)]
    for name, volume in zip(("half1", "half2", "map"), [*halves, sum(halves)], strict=True):
        write_volume(folder / f"{name}.mrc", volume, PIXEL)
    write_fsc(folder / "fsc.star", fsc_table({"corrected": curve}, BOX, PIXEL))

    def started(particles: object, starts: tuple[torch.Tensor, ...], settings: Settings, *others: object) -> None:
        for start, half in zip(starts, halves, strict=True):
            torch.testing.assert_close(start, torch.tensor(half))
        assert settings.initial_radius == BOX // 4
        raise StartedError

    monkeypatch.setattr(stream_refine, "Refinement", started)
    with pytest.raises(StartedError):
        round_of("keep", 2, str(folder))


def test_halves_of_noise_stay_apart_over_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=80, snr=0.0)
    keep_some(60, "few")
    round_of("few", 1, "start", iterations=2)
    round_of("keep", 2, "results/map/rounds/0001", passes=2)
    halves = [torch.tensor(read_volume(f"results/map/rounds/0002/half{half}.mrc")[0]) for half in (1, 2)]
    curve = fsc(*halves)
    start = round(BOX * PIXEL / 40.0) + 2
    assert float(curve[start:].mean()) < 0.1
    assert float(curve[start:].median()) < 0.143


def test_a_round_killed_in_an_iteration_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path, count=80, snr=1.0)
    keep_some(60, "few")
    round_of("few", 1, "start", iterations=2, max_resolution=20.0)
    second = partial(round_of, "keep", 2, "results/map/rounds/0001", passes=3, max_resolution=20.0)
    second()
    maps = [Path(f"results/map/rounds/0002/{name}.mrc") for name in ("map", "half1", "half2", "mask")]
    poses = Path("results/map/rounds/0002/particles.star")
    whole, found = [read_volume(path)[0] for path in maps], poses.read_text()
    step, numbers = Refinement.step, list[int]()

    def interrupted(self: Refinement, number: int, last: bool) -> Iteration:
        numbers.append(number)
        if len(numbers) == 2:
            raise KeyboardInterrupt
        return step(self, number, last)

    monkeypatch.setattr(Refinement, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        second()
    second()
    assert numbers[:3] == [1, 2, 2]
    assert len(set(numbers)) == len(numbers) - 1
    assert all(np.array_equal(read_volume(path)[0], volume) for path, volume in zip(maps, whole, strict=True))
    assert poses.read_text() == found
