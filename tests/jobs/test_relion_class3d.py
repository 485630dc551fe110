"""3D classification by RELION: the real one where it is installed, and a stand-in for what it is told and how it is read."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.errors import InputError
from firn.formats.mrc import write_volume
from firn.formats.particles import read_particles
from firn.formats.relion_run import write_references
from firn.formats.star import read_star
from firn.formats.volumes import read_volume
from firn.jobs import relion_class3d
from firn.runtime.entry import open_job
from firn.simulate.phantom import phantom_volume, random_phantom
from refine_session import BOX, PHANTOM, PIXEL, simulate, write_particles, write_session, write_start
from relion_stand_in import install

HOME = Path("results/classes")


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def classify(mask: bool = False, **settings: Any) -> pd.DataFrame:
    start = {name: settings[name] for name in ("volumes",) if name in settings} or {"volume": "start"}
    wanted = {"type": "relion_class3d", "particles": "keep", "particle_diameter": 115} | start | settings
    inputs = {name: [given] if isinstance(given, str) else list(given) for name, given in start.items()}
    inputs |= {"particles": ["keep"]} | ({"mask": ["start"]} if mask else {})
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


@pytest.mark.relion
@pytest.mark.skipif(not shutil.which("relion_refine"), reason="needs RELION")
def test_relion_sorts_particles_to_the_map_that_each_class_starts_from() -> None:
    """Two kinds of particles in known poses, and a map of each: 24 of the second kind, 12 of the first."""
    other = random_phantom(60, 45.0, seed=9, widths=(3.5, 5.0))
    kinds = np.arange(36) % 3 > 0
    truth = simulate(36, [PHANTOM, other], kinds.astype(int))
    angles = dict(zip(("rot", "tilt", "psi"), truth.angles.T, strict=True))
    origins = {f"origin_{axis}": -truth.shifts[:, number] for number, axis in enumerate("xy")}
    noise = np.random.default_rng(2).normal(size=truth.clean.shape)
    write_particles(Path(), truth, 2 * truth.clean + noise, **angles, **origins)
    for name, phantom in (("first", PHANTOM), ("second", other)):
        write_start(Path(), phantom_volume(phantom, BOX, PIXEL), name)
    found = classify(volumes=["first", "second"], iterations=1, align=False, initial_lowpass=15, pad=1)
    assert (found["class_number"].to_numpy() == np.where(kinds, 1, 2)).mean() > 0.9
    largest = read_volume(HOME / "class_1/map.mrc")[0].ravel()
    likeness = [np.corrcoef(largest, phantom_volume(phantom, BOX, PIXEL).ravel())[0, 1] for phantom in (PHANTOM, other)]
    assert likeness[1] > likeness[0]


def test_each_class_starts_from_a_map_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    install(Path("bin"))
    monkeypatch.setenv("PATH", str(Path("bin").absolute()))
    write_session(Path(), 4, snr=1.0)
    for number in (1, 2):
        write_start(Path("start"), number * phantom_volume(PHANTOM, BOX, PIXEL), f"class_{number}")
    write_start(Path(), 3 * phantom_volume(PHANTOM, BOX, PIXEL), "junk")
    classify(volumes=["start", "junk"], iterations=1, classes=7)
    (arguments,) = json.loads((HOME / "relion.json").read_text())["arguments"]
    named = dict(zip(arguments, [*arguments[1:], ""], strict=True))
    assert named["--K"] == "3"
    assert Path(named["--ref"]).name == "references.star"
    with pytest.raises(InputError, match="volumes has one map"):
        classify(volumes="junk")
    with pytest.raises(InputError, match="give either volume"):
        classify(volumes="junk", volume="start")


def test_references_are_told_in_their_order(tmp_path: Path) -> None:
    write_references(tmp_path / "r.star", ["b.mrc", "a.mrc"])
    (block,) = read_star(tmp_path / "r.star").values()
    assert block["rlnReferenceImage"].tolist() == ["b.mrc", "a.mrc"]


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
