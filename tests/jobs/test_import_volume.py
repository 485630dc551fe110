"""What import_volume takes, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.volumes import read_volume
from firn.jobs import import_volume
from firn.runtime.entry import open_job
from half_maps import atoms_map, noisy_halves


def run(**settings: object) -> Path:
    home = Path("results/volume")
    with open_job(import_volume.Params, {"type": "import_volume", **settings}, {}, home, "volume", threads=1) as job:
        import_volume.run(job)
    return home


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, volume in zip(("a.mrc", "b.mrc"), noisy_halves(atoms_map(24, 2.0), 0.5), strict=True):
        write_volume(name, volume, 2.0)


def test_half_maps_alone_give_their_mean_as_the_map():
    home = run(half1="a.mrc", half2="b.mrc")
    mean = (read_volume("a.mrc")[0] + read_volume("b.mrc")[0]) / 2
    np.testing.assert_allclose(read_volume(home / "map.mrc")[0], mean, atol=1e-6)
    assert (home / "half2.mrc").exists()
    assert json.loads((home / "job.json").read_text(encoding="utf-8"))["metrics"]["box"]["value"] == 24


def test_a_given_pixel_size_overrides_the_header_in_every_file():
    home = run(map="a.mrc", half1="a.mrc", half2="b.mrc", pixel_size=1.75)
    for name in ("map", "half1", "half2"):
        assert read_volume(home / f"{name}.mrc")[1] == pytest.approx(1.75)


def test_the_same_file_as_both_halves_is_remarked_upon():
    record = json.loads((run(half1="a.mrc", half2="a.mrc") / "job.json").read_text(encoding="utf-8"))
    assert "the same" in record["warnings"][0]


def test_a_mask_alone_is_taken_and_one_beyond_zero_to_one_is_refused():
    write_volume("mask.mrc", np.pad(np.ones((8, 8, 8), np.float32), 8), 2.0)
    assert (run(mask="mask.mrc") / "mask.mrc").exists()
    write_volume("mask.mrc", np.full((24, 24, 24), 7.0, np.float32), 2.0)
    with pytest.raises(InputError, match="a mask has values from 0 to 1"):
        run(mask="mask.mrc")


@pytest.mark.parametrize(
    ("settings", "sentence"), [({}, "names no file"), ({"half1": "a.mrc"}, "come in pairs"), ({"map": "no.mrc"}, "cannot be read")]
)
def test_what_is_missing_is_said_in_one_sentence(settings: dict[str, str], sentence: str):
    with pytest.raises(InputError, match=sentence):
        run(**settings)


def test_a_header_without_a_pixel_size_asks_for_one():
    write_volume("a.mrc", atoms_map(16, 2.0), 0.0)
    with pytest.raises(InputError, match="give pixel_size"):
        run(map="a.mrc")
    assert read_volume(run(map="a.mrc", pixel_size=1.2) / "map.mrc")[1] == pytest.approx(1.2)
