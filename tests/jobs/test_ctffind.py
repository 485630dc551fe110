"""The CTF by CTFFIND: which questions get which answers, what is read back, what is said when it fails. A stand-in plays its part."""

import json
import sys
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pandas as pd
import pytest
import tifffile

from firn.errors import InputError
from firn.formats.mrc import write_image
from firn.formats.tables import read_table, write_table
from firn.jobs import ctffind, patch_ctf
from firn.runtime.entry import open_job
from firn.runtime.job import Job
from stand_in import write_program

STAND_IN = '''#!{python}
"""Asks what CTFFIND asks, in the order of its version, and writes what it writes; what was answered lies beside it."""
import json, os, sys, time
import mrcfile, numpy

version = os.environ.get("CTFFIND_VERSION", "4.1.14")
said = {{}}
def ask(question, kind=str):
    line = sys.stdin.readline()
    print(question + " :")
    if not line.strip():
        print("\\n Error: Blank answer in scripted mode, exiting...\\n")
        sys.exit(255)
    if kind is bool:
        assert line[0] in "yYnN", question + " got " + line
        said[question] = line[0] in "yY"
    else:
        said[question] = kind(line.strip())
    return said[question]

print("\\n\\n        **   Welcome to Ctffind   **\\n\\n             Version : " + version)
image = ask("Input image file name")
if image.endswith("mrc"):
    data = mrcfile.open(image, permissive=True).data
    slices, level = (len(data) if data.ndim == 3 else 1), data.flat[0]
else:
    slices, level = 6, 0
if level == 5:
    print("Error: the spectrum is empty")
    sys.exit(1)
if level == 6:
    sys.exit(0)
if level == 7:
    print("working", flush=True)
    time.sleep(600)
if slices > 1 and ask("Input is a movie (stack of frames)", bool):
    ask("Number of frames to average together", int)
out = ask("Output diagnostic image file name")
for question in ("Pixel size", "Acceleration voltage", "Spherical aberration", "Amplitude contrast"):
    ask(question, float)
size = ask("Size of amplitude spectrum to compute", int)
for question in ("Minimum resolution", "Maximum resolution", "Minimum defocus", "Maximum defocus", "Defocus search step"):
    ask(question, float)
assert not ask("Do you know what astigmatism is present?", bool)
ask("Slower, more exhaustive search?", bool)
if ask("Use a restraint on astigmatism?", bool):
    ask("Expected (tolerated) astigmatism", float)
phase = 0
if ask("Find additional phase shift?", bool):
    low, high = ask("Minimum phase shift (rad)", float), ask("Maximum phase shift (rad)", float)
    assert high <= 3.15
    ask("Phase shift search step", float)
    phase = (low + high) / 2
elif version >= "4.1.15":
    assert not ask("Determine sample tilt?", bool)
if version >= "5":
    assert not ask("Determine samnple thickness?", bool)
assert not ask("Do you want to set expert options?", bool)
stem = os.path.splitext(out)[0]
with mrcfile.new(out) as mrc:
    mrc.set_data(numpy.random.default_rng(1).normal(size=(1, size, size)).astype(numpy.float32))
frequency = numpy.linspace(0, 0.5 / said["Pixel size"], size // 2 + 1)
curve = numpy.abs(numpy.sin(2000 * frequency**2))
with open(stem + "_avrot.txt", "w") as stream:
    stream.write("# Output from CTFFind version " + version + "\\n")
    for row in (frequency, curve, curve, curve, curve, 0 * curve):
        stream.write(" ".join("%f" % value for value in row) + "\\n")
with open(stem + ".txt", "w") as stream:
    stream.write("# Output from CTFFind version %s, run on 2024-03-05 10:08:51\\n" % version)
    row = [1, 12588.083984, 11956.6875, -44.710212, phase, 0.494779, 4.102857] + [0] * 3 * (version >= "5")
    stream.write(" ".join("%f" % value for value in row) + "\\n")
open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "answers.json"), "w").write(json.dumps([sys.argv[1:], said]))
print("Summary of results                          : " + stem + ".txt")
sys.exit(int(os.environ.get("CTFFIND_CODE", "0")))
'''
HOME = Path("results/ctf/batches/0001")
PIXEL = 1.5


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run folder with the program on the PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(write_program(Path("bin/ctffind"), STAND_IN.format(python=sys.executable)).parent))
    Path("mics").mkdir()


def micrograph(name: str, first: float = 0.0, float16: bool = False) -> str:
    """A micrograph whose first pixel tells the stand-in what to do."""
    image = np.random.default_rng(1).normal(size=(160, 192)).astype(np.float32)
    image[0, 0] = first
    write_image(f"mics/{name}.mrc", image, PIXEL, float16)
    return f"mics/{name}.mrc"


def exposures(micrographs: list[str], **columns: Any) -> None:
    table = pd.DataFrame({"exposure_id": [f"e{number}" for number in range(len(micrographs))], "batch": "0001", "micrograph": micrographs})
    table = table.assign(micrograph_pixel_size=PIXEL, movie_pixel_size=0.75, voltage_kv=200.0, cs_mm=2.7, amplitude_contrast=0.07)
    write_table("results/motion/batches/0001/exposures.star", table.assign(width_px=192, height_px=160, **columns), "exposures")


def run(kind: Any = ctffind, **settings: Any) -> Job:
    inputs = {"exposures": ["results/motion/batches/0001"]}
    with open_job(kind.Params, {"type": "ctffind", "exposures": "motion"} | settings, inputs, HOME, "ctf", "0001", threads=1) as job:
        kind.run(job)
    return job


def fitted() -> pd.DataFrame:
    return read_table(HOME / "exposures.star", "exposures")


def answered() -> tuple[list[str], dict[str, Any]]:
    arguments, answers = json.loads(Path("bin/answers.json").read_text())
    return arguments, answers


def test_fits_come_back_as_columns_of_patch_ctf() -> None:
    exposures([micrograph("a"), micrograph("b")])
    job = run(plots=1)
    table = fitted()
    row = table.iloc[1]
    assert table["exposure_id"].tolist() == ["e0", "e1"]
    assert (row["defocus_u"], row["defocus_v"]) == pytest.approx((12588.083984, 11956.6875))
    assert row["defocus_angle"] == pytest.approx(180 - 44.710212)
    assert (row["phase_shift"], row["ctf_score"]) == pytest.approx((0, 0.494779))
    assert row["ctf_fit_resolution"] == pytest.approx(4.102857)
    assert row["astigmatism"] == pytest.approx(12588.083984 - 11956.6875)
    assert job.metrics["median_fit_resolution"]["value"] == pytest.approx(4.102857)
    assert sorted(path.name for path in HOME.iterdir()) == ["ctffind.json", "exposures.star", "figures", "job.json"]
    assert [path.name for path in (HOME / "figures").iterdir()] == ["ctf_e0.png"]
    run(patch_ctf, min_resolution=40.0, max_resolution=5.0)
    assert set(fitted().columns) - set(table.columns) == {"ice_ring_score"}


QUESTIONS = {
    "Input image file name": "image.mrc",
    "Output diagnostic image file name": "spectrum.mrc",
    "Pixel size": PIXEL,
    "Acceleration voltage": 200.0,
    "Spherical aberration": 2.7,
    "Amplitude contrast": 0.07,
    "Size of amplitude spectrum to compute": 640,
    "Minimum resolution": 30.0,
    "Maximum resolution": 5.0,
    "Minimum defocus": 5000.0,
    "Maximum defocus": 50000.0,
    "Defocus search step": 100.0,
    "Do you know what astigmatism is present?": False,
    "Slower, more exhaustive search?": True,
    "Use a restraint on astigmatism?": True,
    "Expected (tolerated) astigmatism": 150.0,
    "Find additional phase shift?": False,
    "Do you want to set expert options?": False,
}
SETTINGS = {"box_px": 640, "min_resolution": 30, "max_resolution": 5, "min_defocus": 5000, "max_defocus": 50000, "defocus_step": 100}


@pytest.mark.parametrize(
    ("version", "more"),
    [("4.1.10", ()), ("4.1.15", ("Determine sample tilt?",)), ("5.0.2", ("Determine sample tilt?", "Determine samnple thickness?"))],
)
def test_every_version_gets_its_answers(version: str, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTFFIND_VERSION", version)
    exposures([micrograph("a")])
    run(**SETTINGS, tolerated_astigmatism=150, arguments=["-j", "2"])
    assert answered() == (["-j", "2"], QUESTIONS | dict.fromkeys(more, False))
    record = json.loads((HOME / "ctffind.json").read_text())
    answers = "image.mrc spectrum.mrc 1.5 200 2.7 0.07 640 30 5 5000 50000 100 no yes yes 150 no no no no"
    told = {"program": str(Path("bin/ctffind").absolute()), "version": version, "arguments": [["-j", "2"]], "answers": answers}
    assert record == told


@pytest.mark.parametrize("version", ["4.1.10", "4.1.15", "5.0.2"])
def test_a_phase_shift_is_asked_for_in_radians_and_told_in_degrees(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTFFIND_VERSION", version)
    exposures([micrograph("a")])
    run(fit_phase_shift=True, min_phase_shift=30, max_phase_shift=120, phase_shift_step=5)
    _, answers = answered()
    told = [answers[name] for name in ("Minimum phase shift (rad)", "Maximum phase shift (rad)", "Phase shift search step")]
    np.testing.assert_allclose(np.rad2deg(told), [30, 120, 5], rtol=1e-5)
    assert fitted()["phase_shift"].iloc[0] == pytest.approx(75, abs=1e-3)


def test_the_sum_without_dose_weights_is_fitted_to_nyquist_at_most() -> None:
    exposures([micrograph("weighted", first=5.0)], micrograph_plain=micrograph("plain"))
    run(max_resolution=2.0, slow_search=False)
    _, answers = answered()
    assert answers["Maximum resolution"] == 2 * PIXEL
    assert answers["Slower, more exhaustive search?"] is False
    assert not (HOME / "failed.star").exists()


def test_pixels_that_not_every_version_reads_are_converted() -> None:
    exposures([micrograph("half", float16=True)])
    program = Path("bin/ctffind")
    program.write_text(program.read_text().replace("slices, level =", "assert data.dtype == numpy.float32; slices, level ="))
    run()
    with mrcfile.open("mics/half.mrc") as mrc:
        assert mrc.data.dtype == np.float16
    assert len(fitted()) == 1


def test_movies_are_fitted_by_their_own_pixels() -> None:
    with tifffile.TiffWriter("mics/m.tif") as stream:
        for _ in range(6):
            stream.write(np.ones((8, 8), dtype=np.uint8), metadata=None)
    exposures([micrograph("a")], movie="mics/m.tif")
    run(frames_averaged=4)
    _, answers = answered()
    assert [
        answers[name] for name in ("Input image file name", "Input is a movie (stack of frames)", "Number of frames to average together")
    ] == [
        "image.tif",
        True,
        4,
    ]
    assert answers["Pixel size"] == 0.75
    exposures([micrograph("a")], movie="mics/m.tif", gain="gain.mrc")
    with pytest.raises(InputError, match="job ctf: frames_averaged needs movies that have no gain reference"):
        run(frames_averaged=4)


def test_one_exposure_that_fails_does_not_stop_the_batch() -> None:
    names = [micrograph("broken", 5.0), micrograph("mute", 6.0), micrograph("good"), "mics/gone.mrc"]
    exposures(names)
    run()
    assert fitted()["exposure_id"].tolist() == ["e2"]
    failed = read_table(HOME / "failed.star", "failed")
    assert failed["reason_code"].tolist() == ["PROGRAM", "PROGRAM", "HEADER"]
    assert failed["reason"].tolist()[:2] == [
        "mics/broken.mrc: ctffind: ended with exit code 1; its last line: Error: the spectrum is empty",
        "mics/mute.mrc: the program ended without an error, but wrote no fit; its last line: Input image file name :",
    ]


def test_a_fit_counts_whatever_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTFFIND_CODE", "255")
    exposures([micrograph("a")])
    run()
    assert len(fitted()) == 1


def test_a_program_that_hangs_is_given_up() -> None:
    exposures([micrograph("slow", 7.0)])
    run(time_limit_s=0.2)
    reason = read_table(HOME / "failed.star", "failed")["reason"][0]
    assert "mics/slow.mrc: ctffind: was stopped since it took longer than 0.2 s" in reason


def test_a_program_that_fits_none_of_several_is_one_sentence() -> None:
    exposures([micrograph("a", 5.0), micrograph("b", 5.0)])
    with pytest.raises(InputError, match=r"none of 2 exposures could be fitted; the first: mics/a.mrc: ctffind: ended with exit code 1"):
        run()
    assert not HOME.exists()


def test_a_program_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    exposures([micrograph("a")])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="none of the programs ctffind, ctffind5, ctffind4 is on the PATH; install one"):
        run()


def test_a_batch_without_exposures_has_its_tables() -> None:
    exposures([])
    run()
    assert fitted().empty
