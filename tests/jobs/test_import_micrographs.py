"""Imports of micrographs: good ones become exposures with their pixel size and stay where they lie, bad ones are listed with a reason."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import tifffile

from firn.formats.mrc import read_mrc
from firn.formats.tables import read_table
from firn.jobs import import_micrographs
from firn.runtime.entry import open_job
from firn.runtime.job import Job

OPTICS = {"voltage_kv": 300, "cs_mm": 0.001}


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def write_micrograph(path: Path, image: np.ndarray, pixel_size: float = 1.5) -> Path:
    with mrcfile.new(path) as mrc:
        mrc.set_data(image)
        mrc.voxel_size = pixel_size
    return path


def import_all(settings: dict[str, Any]) -> Job:
    with open_job(import_micrographs.Params, OPTICS | settings, {}, Path("results/in"), "in", threads=1) as job:
        import_micrographs.run(job)
    return job


def test_micrographs_take_their_pixel_size_from_the_header_and_stay_where_they_are(raw: Path) -> None:
    generator = np.random.default_rng(3)
    for number in range(3):
        write_micrograph(raw / f"m{number}.mrc", generator.integers(-100, 100, (20, 30)).astype(np.int8))
    job = import_all({"files": "raw/*.mrc", "batch_size": 2})
    table = read_table("results/in/exposures.star", "exposures")
    assert list(table["micrograph"]) == [f"raw/m{number}.mrc" for number in range(3)]
    assert table["micrograph_pixel_size"].tolist() == [1.5] * 3
    assert job.batches == ["0001", "0002"]
    assert not Path("results/in/micrographs").exists()


@pytest.mark.filterwarnings("ignore:Data array contains")
def test_micrographs_with_nan_without_contrast_and_stacks_are_refused(raw: Path) -> None:
    good = np.random.default_rng(3).normal(size=(20, 30)).astype(np.float32)
    hole = good.copy()
    hole[3, 3] = np.nan
    for name, image in (("a", good), ("b", good), ("c", good), ("flat", 0 * good), ("hole", hole)):
        write_micrograph(raw / f"{name}.mrc", image)
    write_micrograph(raw / "stack.mrc", np.stack([good, good]))
    import_all({"files": "raw/*.mrc"})
    failed = read_table("results/in/failed.star", "failed").set_index("micrograph")["reason_code"].to_dict()
    assert failed == {"raw/flat.mrc": "ZERO", "raw/hole.mrc": "NONFINITE", "raw/stack.mrc": "FRAMES"}


def test_a_tiff_micrograph_is_converted_with_its_rows_turned(raw: Path) -> None:
    image = np.random.default_rng(4).normal(size=(20, 30)).astype(np.float32)
    tifffile.imwrite(raw / "m.tif", image)
    import_all({"files": "raw/*.tif", "pixel_size": 2.0})
    stored, pixel_size = read_mrc(read_table("results/in/exposures.star", "exposures")["micrograph"].iloc[0])
    np.testing.assert_array_equal(stored, image[::-1])
    assert pixel_size == pytest.approx(2.0)


@pytest.mark.parametrize(("ending", "pack"), [("bz2", bz2.compress), ("gz", gzip.compress), ("xz", lzma.compress)])
def test_a_packed_micrograph_is_unpacked_for_the_jobs_that_follow(raw: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    image = np.random.default_rng(3).normal(size=(20, 30)).astype(np.float32)
    plain = write_micrograph(raw / "m.mrc", image)
    (raw / f"m.mrc.{ending}").write_bytes(pack(plain.read_bytes()))
    import_all({"files": f"raw/m.mrc.{ending}"})
    table = read_table("results/in/exposures.star", "exposures")
    np.testing.assert_array_equal(read_mrc(table["micrograph"].iloc[0])[0], image)
    assert table["micrograph_pixel_size"][0] == 1.5


def test_the_pixel_size_of_micrographs_is_doubted_when_their_headers_contradict_it_or_hardly_know_it(raw: Path) -> None:
    image = np.random.default_rng(3).normal(size=(20, 30)).astype(np.float32)
    write_micrograph(raw / "m.mrc", image, 1.5)
    assert not import_all({"files": "raw/m.mrc", "pixel_size": 1.52}).warnings
    assert "1.5 Å, but pixel_size is 2 Å" in import_all({"files": "raw/m.mrc", "pixel_size": 2}).warnings[0]
    write_micrograph(raw / "one.mrc", image, 1.0)
    assert "exactly 1 Å" in import_all({"files": "raw/one.mrc"}).warnings[0]
    assert not import_all({"files": "raw/one.mrc", "pixel_size": 2}).warnings
