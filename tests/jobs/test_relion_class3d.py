"""3D classification by RELION: the real one where it is installed, and a stand-in for what it is told and how it is read."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from firn.formats.mrc import write_volume
from firn.formats.particles import read_particles
from firn.formats.volumes import read_volume
from firn.jobs import relion_class3d
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume
from refine_session import BOX, PHANTOM, PIXEL, write_session
from relion_stand_in import install

HOME = Path("results/classes")


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def classify(mask: bool = False, **settings: Any) -> pd.DataFrame:
    wanted = {"type": "relion_class3d", "particles": "keep", "volume": "start", "particle_diameter": 115} | settings
    inputs = {"particles": ["keep"], "volume": ["start"]} | ({"mask": ["start"]} if mask else {})
    with open_job(relion_class3d.Params, wanted, inputs, HOME, "classes", threads=1) as job:
        relion_class3d.run(job)
    return read_particles(HOME / "particles.star")


@pytest.mark.relion
@pytest.mark.skipif(not shutil.which("relion_refine"), reason="needs RELION")
def test_relion_classifies_and_every_class_is_a_map_with_its_particles() -> None:
    write_session(Path(), 40, snr=2.0)
    found = classify(classes=2, iterations=2, healpix_order=1, initial_lowpass=40, pad=1, offset_range=2)
    parts = [read_particles(HOME / f"class_{number}/particles.star") for number in (1, 2)]
    assert len(parts[0]) >= len(parts[1])
    assert len(parts[0]) + len(parts[1]) == len(found) == 40
    for number in (1, 2):
        volume, pixel_size = read_volume(HOME / f"class_{number}/map.mrc")
        assert volume.shape == (BOX,) * 3
        assert pixel_size == pytest.approx(PIXEL)
    assert found["rot"].nunique() > 1


def test_classes_come_back_by_size_each_with_the_map_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    install(Path("bin"))
    monkeypatch.setenv("PATH", str(Path("bin").absolute()))
    write_session(Path(), 4, snr=1.0)
    write_volume("start/mask.mrc", phantom_volume(PHANTOM, BOX, PIXEL).clip(0, 1), PIXEL)
    found = classify(mask=True, classes=3, iterations=1, align=False, absolute_greyscale=True, regularisation=2.5)
    (arguments,) = json.loads((HOME / "relion.json").read_text())["arguments"]
    named = dict(zip(arguments, [*arguments[1:], ""], strict=True))
    assert {name: named[name] for name in ("--K", "--iter", "--tau2_fudge", "--sym", "--solvent_mask")} == {
        "--K": "3", "--iter": "1", "--tau2_fudge": "2.5", "--sym": "C1", "--solvent_mask": "start/mask.mrc",
    }  # fmt: skip
    assert "--skip_align" in arguments
    assert not {"--healpix_order", "--firstiter_cc", "--auto_refine"} & set(arguments)
    # The stand-in deals its reversed rows to classes 1, 2, 3, 1; the map of class k has the mean k.
    assert found["class_number"].tolist() == [1, 3, 2, 1]
    means = [read_volume(HOME / f"class_{number}/map.mrc")[0].mean() for number in (1, 2, 3)]
    assert means == pytest.approx([1, 2, 3], abs=0.05)
    assert [len(read_particles(HOME / f"class_{number}/particles.star")) for number in (1, 2, 3)] == [2, 1, 1]
