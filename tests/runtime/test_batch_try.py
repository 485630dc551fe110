"""What becomes of a batch whose jobs died: the others are kept, and the one that kills is set aside with a reason."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firn.errors import InputError, MachineError
from firn.formats.ids import exposure_id
from firn.formats.tables import read_table
from firn.runtime import batch_try
from firn.runtime.batch_try import Step, run_steps, try_again
from firn.simulate.write_movie import write_tiff_movie
from stand_in import write_program

FILES = ["raw/a.tif", "raw/b[1].tif", "raw/c.tif"]
IMPORT = {
    "type": "import_movies", "files": [], "pixel_size": 2.0, "voltage_kv": 300, "cs_mm": 2.7, "dose_per_frame": 1.0, "batch_size": 3, "seed": 1,
}  # fmt: skip
MOTION = {"type": "patch_motion", "exposures": "movies", "seed": 1}
CHAIN: list[dict[str, Any]] = [
    {"name": "movies", "settings": IMPORT | {"files": ["raw/a.tif", "raw/b[[]1].tif", "raw/c.tif"]}, "inputs": {}},
    {"name": "motion", "settings": MOTION, "inputs": {"exposures": ["results/movies/batches/0001"]}},
]
RECORD = Path("live/tries/movies/0001/2.json")


@pytest.fixture
def movies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    generator = np.random.default_rng(1)
    for path in FILES:
        write_tiff_movie(path, [generator.poisson(5, (64, 64)).astype(np.uint8) for _ in range(3)])


def judge_first_try() -> None:
    """A job failed in the first try."""
    RECORD.parent.mkdir(parents=True)
    RECORD.with_name("1.judged").touch()


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Pairs of job and movie that kill the process; without processes, so that the tests are quick."""
    pairs: set[tuple[str, str]] = set()

    def run_alone(steps: list[Step], batch: str, exposure: str) -> None:
        for step in steps:
            if any(job == step.name and exposure in ("", exposure_id(path)) for job, path in pairs):
                raise InputError("was killed by signal 9")
            run_steps([step], batch, exposure)

    monkeypatch.setattr(batch_try, "_run_alone", run_alone)
    return pairs


def table(job: str, kind: str) -> Any:
    return read_table(f"results/{job}/batches/0001/{kind}.star", kind)


@pytest.mark.usefixtures("movies")
def test_the_first_try_makes_what_is_missing_and_keeps_what_is_there(deadly: set[tuple[str, str]]) -> None:
    run_steps([Step(**CHAIN[0])], "0001", "")
    before = Path("results/movies/batches/0001/job.json").stat().st_mtime_ns
    try_again(CHAIN, FILES, "0001", 1, str(RECORD))
    assert list(table("motion", "exposures")["movie"]) == FILES
    assert Path("results/movies/batches/0001/job.json").stat().st_mtime_ns == before
    assert RECORD.exists()


@pytest.mark.usefixtures("movies")
def test_the_second_try_fails_as_a_whole_when_a_movie_kills_again(deadly: set[tuple[str, str]]) -> None:
    deadly.add(("motion", FILES[1]))
    with pytest.raises(InputError, match="signal 9"):
        try_again(CHAIN, FILES, "0001", 1, str(RECORD))
    assert not RECORD.exists()


@pytest.mark.usefixtures("movies")
@pytest.mark.parametrize("imported", [True, False], ids=["import done before", "import missing too"])
def test_the_third_try_sets_the_killer_aside_and_keeps_its_neighbours(deadly: set[tuple[str, str]], imported: bool) -> None:
    deadly.add(("motion", FILES[1]))
    if imported:
        run_steps([Step(**CHAIN[0])], "0001", "")
    judge_first_try()
    try_again(CHAIN, FILES, "0001", 2, str(RECORD))
    kept = table("motion", "exposures")
    assert sorted(kept["movie"]) == [FILES[0], FILES[2]]
    assert set(kept["batch"].astype(str)) == {"0001"}
    assert all(Path(path).exists() for path in kept["micrograph"])
    failed = table("motion", "failed")
    assert list(failed["movie"]) == [FILES[1]]
    assert list(failed["reason_code"]) == ["DIED"]
    assert "patch_motion was killed by signal 9" in failed["reason"].iloc[0]
    assert sorted(table("movies", "exposures")["movie"]) == FILES


@pytest.mark.usefixtures("movies")
def test_a_batch_of_which_nothing_is_left_leaves_empty_tables(deadly: set[tuple[str, str]]) -> None:
    deadly.update(("movies", path) for path in FILES)
    judge_first_try()
    try_again(CHAIN, FILES, "0001", 2, str(RECORD))
    assert sorted(table("movies", "failed")["movie"]) == FILES
    assert table("motion", "exposures").empty
    assert Path("results/motion/batches/0001/job.json").exists()


@pytest.mark.usefixtures("movies")
def test_a_full_disk_is_no_fault_of_a_movie(deadly: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(steps: list[Step], batch: str, exposure: str) -> None:
        raise MachineError("ended with code 1: OSError: [Errno 28] No space left on device")

    monkeypatch.setattr(batch_try, "_run_alone", full)
    judge_first_try()
    with pytest.raises(MachineError, match="No space left"):
        try_again(CHAIN, FILES, "0001", 2, str(RECORD))
    assert not RECORD.exists()


@pytest.mark.usefixtures("movies")
def test_a_try_that_the_machine_spoilt_is_made_again_as_it_was(deadly: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, alone = batch_try._run_alone, []

    def run_alone(steps: list[Step], batch: str, exposure: str) -> None:
        alone.append(exposure)
        if len(alone) == 1:
            raise MachineError("ended with code 71: raw is missing or empty")
        whole(steps, batch, exposure)

    monkeypatch.setattr(batch_try, "_run_alone", run_alone)
    deadly.add(("motion", FILES[1]))
    for number, kind in enumerate((MachineError, InputError), start=1):
        with pytest.raises(kind):
            try_again(CHAIN, FILES, "0001", number, str(RECORD.with_name(f"{number}.json")))
    assert set(alone) == {""}
    try_again(CHAIN, FILES, "0001", 3, str(RECORD.with_name("3.json")))
    assert set(alone) == {"", *map(exposure_id, FILES)}
    assert list(table("motion", "failed")["movie"]) == [FILES[1]]


@pytest.mark.usefixtures("movies")
def test_a_try_that_was_killed_says_nothing_of_its_movies_until_three_were(
    deadly: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, alone = batch_try._run_alone, []

    def run_alone(steps: list[Step], batch: str, exposure: str) -> None:
        alone.append(exposure)
        if len(alone) <= 3:
            raise KeyboardInterrupt
        whole(steps, batch, exposure)

    monkeypatch.setattr(batch_try, "_run_alone", run_alone)
    for number in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            try_again(CHAIN, FILES, "0001", number, str(RECORD.with_name(f"{number}.json")))
    assert alone == [""] * 3
    try_again(CHAIN, FILES, "0001", 4, str(RECORD.with_name("4.json")))
    assert alone[3:] == [exposure_id(path) for path in FILES]


@pytest.mark.usefixtures("movies")
def test_movies_that_are_away_with_their_folder_are_not_set_aside() -> None:
    Path("raw").rename("elsewhere")
    judge_first_try()
    with pytest.raises(MachineError, match="its folder raw is missing or empty"):
        try_again(CHAIN, FILES[:1], "0001", 2, str(RECORD))
    assert not list(Path("results").rglob("failed.star"))
    assert not RECORD.exists()


@pytest.mark.usefixtures("movies")
def test_a_child_that_fails_says_its_last_words() -> None:
    step = Step("motion", MOTION, {"exposures": ["results/nowhere"]})
    with pytest.raises(InputError, match=r"ended with code 1: .*results/nowhere"):
        batch_try._run_alone([step], "0001", "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_child_to_which_the_disk_refuses_to_write_is_the_machine_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    words = f"OSError: [Errno {number}] {os.strerror(number)}: 'results/motion'"
    program = write_program(tmp_path / "python", f'#!/bin/sh\ncat >/dev/null\necho "{words}" >&2\nexit 1\n')
    monkeypatch.setattr(batch_try.sys, "executable", str(program))
    with pytest.raises(MachineError, match=re.escape(words)):
        batch_try._run_alone([], "0001", "")


def test_a_process_that_the_kernel_ends_is_told_with_what_it_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = write_program(tmp_path / "python", "#!/bin/sh\ncat >/dev/null\necho '50% of 3 exposures' >&2\nkill -9 $$\n")
    monkeypatch.setattr(batch_try.sys, "executable", str(program))
    with pytest.raises(InputError, match=r"^was killed by signal 9, as when memory runs out; .* held \d+\.\d GB$"):
        batch_try._run_alone([], "0001", "")
