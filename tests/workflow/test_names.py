"""Names of files are data, never code: whatever letters they have, a session takes them, and nothing in them is run."""

import os
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from firn.dag.catalogue import Catalogue
from firn.dag.collection import import_settings
from firn.dag.graph import Graph
from firn.formats.ids import exposure_id
from firn.formats.mrc import write_image, write_stack, write_volume
from firn.formats.tables import image_names, read_table, write_table
from firn.jobs import import_movies, import_particles, import_volume, patch_motion
from firn.live import layout
from firn.live.ledger import Ledger
from firn.live.watch import check_movie, list_files, watch
from firn.runtime.entry import open_job
from firn.simulate.write_movie import write_tiff_movie
from moving_specimen import FRAMES, SIDE, counted_movie
from workflow.session import ROOT, run, start, write_session

CANARY, SECRET = "fired", "planted-secret-of-the-environment"
NFC_AND_NFD = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
NASTY = [
    "two words", " blanks  about ", "it's", 'a "quote"', "'all of it'", '"all of it"', f"$(touch {CANARY})", f"`touch {CANARY}`",
    f"; touch {CANARY};", f"&& touch {CANARY}", f"| touch {CANARY}", "a*b?", "[a-z]", "-rf", "--help", "{x}", "{wildcards.job}", "{{y}}",
    "100 %d %s", "a\\b\\n", "tab\there", "#no comment", "_rlnLabel", "data_x", "loop_", "~", "$HOME", "<b>&amp;", "é冰🧊", "\u202eright",
    *NFC_AND_NFD, "x" * 200, "wide\u3000blank", "@", "1@x",
    "\ufeffbom", "a=b,c", "(é)!",
]  # fmt: skip
REFUSED = ["line\nbreak", "bell\x07", b"no text \xff".decode("utf-8", "surrogateescape"), "\" and ' "]
SETTINGS: dict[str, Any] = {"pixel_size": 3.0, "voltage_kv": 300, "cs_mm": 2.7, "dose_per_frame": 2.0}


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    return tmp_path


def write_movies(folder: Path, names: list[str]) -> list[str]:
    movie = counted_movie(2.0, 0.0)
    for name in names:
        write_tiff_movie(folder / f"{name}.tif", movie)
    return sorted(f"{folder.name}/{name}.tif" for name in names)


def test_movies_of_any_name_are_imported_and_corrected_and_those_no_table_could_tell_are_refused(raw: Path) -> None:
    names = write_movies(raw / "raw", [*NASTY[::4], *REFUSED])
    with open_job(import_movies.Params, SETTINGS | {"files": "raw/*.tif"}, {}, Path("results/movies"), "movies") as job:
        import_movies.run(job)
    table = read_table("results/movies/exposures.star", "exposures")
    assert table["movie"].tolist() == [name for name in names if name.removeprefix("raw/").removesuffix(".tif") not in REFUSED]
    assert table["exposure_id"].tolist() == [exposure_id(name) for name in table["movie"]]
    failed = read_table("results/movies/failed.star", "failed")
    assert failed["reason_code"].tolist() == ["NAME"] * len(REFUSED)
    inputs = {"exposures": ["results/movies/batches/0001"]}
    with open_job(
        patch_motion.Params, {"exposures": "movies"}, inputs, Path("results/motion/batches/0001"), "motion", "0001", threads=1
    ) as motion:
        patch_motion.run(motion)
    done = read_table("results/motion/batches/0001/exposures.star", "exposures")
    assert done["movie"].tolist() == read_table("results/movies/batches/0001/exposures.star", "exposures")["movie"].tolist()
    assert all(Path(path).is_file() for path in done["micrograph"])


def test_a_file_can_be_named_letter_by_letter_although_its_name_is_a_pattern(raw: Path) -> None:
    write_movies(raw / "raw", ["[a-z]", "a*b?", "b"])
    settings = SETTINGS | {"files": ["raw/[a-z].tif", "raw/a*b?.tif"]}
    with open_job(import_movies.Params, settings, {}, Path("results/movies"), "movies") as job:
        import_movies.run(job)
    assert read_table("results/movies/exposures.star", "exposures")["movie"].tolist() == ["raw/[a-z].tif", "raw/a*b?.tif"]


@pytest.mark.parametrize("name", NASTY[1::4])
def test_particles_and_maps_of_any_name_are_imported(raw: Path, name: str) -> None:
    rng = np.random.default_rng(1)
    write_stack(raw / "raw" / f"{name}.mrcs", rng.normal(size=(2, 16, 16)).astype(np.float32), 1.5)
    write_volume(raw / "raw" / f"{name}.mrc", rng.normal(size=(8, 8, 8)).astype(np.float32), 1.5)
    columns = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "image_pixel_size": 1.5, "defocus_u": 1e4, "defocus_v": 1e4}
    rows = {"image": image_names(f"raw/{name}.mrcs", 2), "micrograph": f"{name}.mrc", "defocus_angle": 0.0}
    write_table(raw / "raw" / f"{name}.star", pd.DataFrame({**rows, **columns}), "particles")
    with open_job(import_particles.Params, {"file": f"raw/{name}.star"}, {}, Path("results/p"), "p") as job:
        import_particles.run(job)
    assert read_table("results/p/particles.star", "particles")["image"].tolist() == image_names(f"raw/{name}.mrcs", 2)
    with open_job(import_volume.Params, {"map": f"raw/{name}.mrc"}, {}, Path("results/v"), "v") as job:
        import_volume.run(job)
    assert Path("results/v/map.mrc").is_file()


def test_a_live_session_takes_movies_of_any_name_and_hands_each_to_the_import(raw: Path) -> None:
    names = write_movies(raw / "raw", [*NASTY, *REFUSED])
    ledger = Ledger("movies")
    ledger.waiting = watch({}, list_files(["raw/*.tif"], ledger.known), 0.0)
    assert sorted(ledger.waiting) == names
    good, bad = [], []
    for path in names:
        try:
            check_movie(path, 40, 2, None)
            good.append(path)
        except ValueError as fault:
            bad.append(str(fault))
    assert len(bad) == len(REFUSED)
    for path in good:
        ledger.accept(path, f"{FRAMES} {SIDE} {SIDE}", 1.0)
    ledger.cut("0001", good, 2.0)
    graph = Graph({"jobs": {"movies": {"type": "import_movies", "files": "raw/*.tif", **SETTINGS}}}, Catalogue(ROOT / "config/schema.json"))
    assert layout.batch_file("movies", "0001").is_file()
    settings = import_settings(graph, "movies", "0001")
    with open_job(import_movies.Params, settings, {}, Path("results/movies/batches/0001"), "movies", "0001") as job:
        import_movies.run(job)
    assert read_table("results/movies/batches/0001/exposures.star", "exposures")["movie"].tolist() == good


def test_twins_by_name_in_folders_letters_and_spelling_are_movies_of_their_own(raw: Path) -> None:
    (raw / "raw/b").mkdir()
    names = [*write_movies(raw / "raw", ["m", "M", *NFC_AND_NFD]), "raw/b/m.tif"]
    (raw / "raw/b/m.tif").write_bytes((raw / "raw/m.tif").read_bytes())
    with open_job(import_movies.Params, SETTINGS | {"files": "raw/**/*.tif"}, {}, Path("results/movies"), "movies") as job:
        import_movies.run(job)
    table = read_table("results/movies/exposures.star", "exposures")
    assert sorted(table["movie"]) == sorted(names)
    assert table["exposure_id"].nunique() == len(names)


@dataclass
class Ran:
    """A session that Snakemake ran: its folder and movies, what it and a second Snakemake said, raw data as they were before."""

    folder: Path
    movies: list[str]
    code: int
    text: str
    second: tuple[int, str]
    before: list[tuple[Path, int, bytes]]


def raw_data(folder: Path) -> list[tuple[Path, int, bytes]]:
    return [(path, path.stat().st_mtime_ns, path.read_bytes()) for path in sorted((folder / "raw").iterdir())]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Folder, gain and movies have names like code, two movies times that cannot be, and the environment holds a secret."""
    folder = tmp_path_factory.mktemp("names") / f"run 'of; $(touch {CANARY}) {{x}} é"
    (folder / "raw").mkdir(parents=True)
    names = write_movies(folder / "raw", [f"$(touch {CANARY})", "{wildcards.job}", "it's", 'a "quote"', "\u202eright"])
    gain = f"raw/gain {{g}} 'of' $(touch {CANARY}).mrc"
    write_image(folder / gain, np.ones((SIDE, SIDE), np.float32) + np.random.default_rng(5).normal(0, 0.02, (SIDE, SIDE)), 3.0)
    write_session(
        folder,
        {
            "movies": {"type": "import_movies", "files": "raw/*.tif", "gain": gain, **SETTINGS},
            "motion": {"type": "patch_motion", "exposures": "movies"},
        },
    )
    for name, time_ in zip(names, (0, 4e9), strict=False):
        os.utime(folder / name, (time_, time_))
    before = raw_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        process = start(folder)
        while not list((folder / ".snakemake/locks").glob("*")) and process.poll() is None:
            time.sleep(0.05)
        second = run(folder)
        text, _ = process.communicate(timeout=600)
    return Ran(folder, names, process.returncode, text, second, before)


def test_a_session_runs_whatever_its_folder_gain_and_movies_are_called_and_whatever_their_times(ran: Ran) -> None:
    assert ran.code == 0, ran.text[-3000:]
    assert sorted(read_table(ran.folder / "results/motion/exposures.star", "exposures")["movie"]) == ran.movies
    assert not list(ran.folder.parent.rglob(CANARY))


def test_raw_data_are_as_they_were(ran: Ran) -> None:
    assert raw_data(ran.folder) == ran.before


def test_a_secret_of_the_environment_is_in_no_file_and_in_nothing_that_is_printed(ran: Ran) -> None:
    files = [path for path in ran.folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in ran.text


def test_a_second_snakemake_in_the_same_folder_leaves_at_once_and_disturbs_nothing(ran: Ran) -> None:
    code, text = ran.second
    assert code != 0
    assert "lock" in text.lower() or "incomplete" in text.lower()
    assert ran.code == 0
