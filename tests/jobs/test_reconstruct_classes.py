"""Every class is reconstructed as if it were alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firn.errors import InputError
from firn.formats.tables import read_table, write_table
from firn.formats.volumes import read_volume
from firn.jobs import reconstruct, reconstruct_classes
from firn.runtime.entry import open_job
from firn.simulate.phantom import random_phantom
from posed_particles import random_angles, write_particles

BOX, PIXEL = 32, 5.0


@pytest.fixture(autouse=True)
def particles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    phantoms = [random_phantom(40, 45.0, seed=seed, widths=(3.5, 5.0)) for seed in (1, 2)]
    table = write_particles("posed", phantoms, random_angles(200), BOX, PIXEL)
    write_table("posed/particles.star", table.assign(class_number=1 + np.arange(200) % 2), "particles")


def classes(**settings: Any) -> dict[str, Any]:
    given = {"particles": "posed", **settings}
    with open_job(reconstruct_classes.Params, given, {"particles": ["posed"]}, Path("results/classes"), "classes", threads=1) as job:
        reconstruct_classes.run(job)
    return json.loads(Path("results/classes/job.json").read_text(encoding="utf-8"))


def test_each_class_has_the_map_of_its_particles_alone():
    record = classes()
    table = read_table("posed/particles.star", "particles")
    write_table("second/particles.star", table[table["class_number"] == 2], "particles")
    with open_job(reconstruct.Params, {"particles": "second"}, {"particles": ["second"]}, Path("results/alone"), "alone", threads=1) as job:
        reconstruct.run(job)
    for name in ("half1", "half2"):
        alone, together = (read_volume(f"results/{folder}/{name}.mrc")[0] for folder in ("alone", "classes/class_2"))
        np.testing.assert_allclose(together, alone, atol=1e-5 * float(np.abs(alone).max()))
    assert record["metrics"]["class_1_particles"]["value"] == 100
    for name in ("map.mrc", "mask.mrc", "fsc.star", "particles.star"):
        assert (Path("results/classes/class_1") / name).exists()


def test_small_classes_are_left_out_and_said():
    table = read_table("posed/particles.star", "particles")
    write_table("posed/particles.star", table.assign(class_number=[3] * 4 + [1] * 196), "particles")
    record = classes()
    assert not Path("results/classes/class_3").exists()
    assert any("fewer than 20 particles: class 3" in warning for warning in record["warnings"])
    assert len(read_table("results/classes/particles.star", "particles")) == 196
    with pytest.raises(InputError, match="no class has 20 particles"):
        classes(classes=[3])


def test_particles_without_classes_are_refused():
    table = read_table("posed/particles.star", "particles")
    write_table("posed/particles.star", table.drop(columns="class_number"), "particles")
    with pytest.raises(InputError, match="_rlnClassNumber"):
        classes()
