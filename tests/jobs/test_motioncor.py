"""Motion correction by MotionCor: what it is told, what is read back, and what is said when it is missing or fails. A stand-in plays its part."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from firn.errors import InputError
from firn.families.outside_motion import defect_lines
from firn.formats.motion_star import polynomial_terms, read_motion
from firn.formats.mrc import read_mrc, write_image, write_stack
from firn.formats.star import read_star
from firn.formats.tables import read_table, write_table
from firn.jobs import motioncor, patch_motion
from firn.runtime.entry import open_job
from firn.runtime.job import Job
from firn.simulate.write_eer import write_eer_movie
from stand_in import write_program

STAND_IN = '''#!{python}
"""Aligns whole frames to the first one and writes what MotionCor writes; options are its own, in any case of letters."""
import os, sys, time
import mrcfile, numpy, tifffile

if sys.argv[1:] == ["--version"]:
    print("MotionCor3 version 1.2.1\\nBuilt on May 14 2025")
    sys.exit(0)
words, given = sys.argv[1:], {{}}
for word in words:
    if word[0] == "-" and word[1:2].isalpha():
        values = given.setdefault(word.lower(), [])
    else:
        values.append(word)
if "-intiff" in given:
    frames = numpy.array([page.asarray()[::-1] for page in tifffile.TiffFile(given["-intiff"][0]).pages], dtype=float)
elif "-inmrc" in given:
    frames = mrcfile.open(given["-inmrc"][0]).data.astype(float)
else:
    raw, group, dose = open(given["-fmintfile"][0]).read().split()
    frames = numpy.random.default_rng(1).normal(5, 1, (int(raw) // int(group), 32, 32))
if frames.mean() < 1:
    print("reading")
    print("Error: all frames are dark", file=sys.stderr)
    sys.exit(6)
if frames.mean() > 200:
    sys.exit(0)
if "-gain" in given:
    frames = frames * mrcfile.open(given["-gain"][0]).data
for row in open(given["-defectfile"][0]) if "-defectfile" in given else ():
    x, y, width, height = map(int, row.split())
    frames[:, y : y + height, x : x + width] = frames.mean()
frames = frames[int(given.get("-throw", [0])[0]) : len(frames) - int(given.get("-trunc", [0])[0])]
shifts, size = [], frames.shape[-1]
for frame in frames:
    peak = numpy.fft.ifft2(numpy.fft.fft2(frames[0]) * numpy.fft.fft2(frame).conj()).real
    y, x = numpy.unravel_index(peak.argmax(), peak.shape)
    shifts.append([(x + 16) % size - 16, (y + 16) % size - 16])
total = sum(numpy.roll(frame, (y, x), (0, 1)) for frame, (x, y) in zip(frames, shifts))
stem, bin = os.path.splitext(given["-outmrc"][0])[0], float(given["-ftbin"][0])
side = int(size / bin + 0.5) // 2 * 2
sums = {{"": 1.0}}
if "-fmdose" in given or "-fmintfile" in given:
    sums["_DW"] = 0.5
if "-splitsum" in given:
    sums.update({{"_ODD": 2.0, "_EVN": 3.0}})
for ending, factor in sums.items():
    with mrcfile.new(stem + ending + ".mrc") as mrc:
        mrc.set_data((factor * total[:side, :side]).astype(numpy.float32))
log = dict(new=given["-logdir"][0] + "movie", old=given["-logfile"][0] + "0", said=None)[os.environ.get("LOGS", "new")]
if log is None:
    print("Full-frame alignment shift")
    for number, (x, y) in enumerate(shifts):
        print("...... Frame (%3d) shift: %9.3f  %9.3f" % (number + 1, x, y))
    print("done")
else:
    with open(log + ("-Patch" if int(given["-patch"][0]) > 1 else "") + "-Full.log", "w") as stream:
        stream.write("# Patch based alignment\\n# Initial alignment based upon full frames\\n\\n")
        for number, (x, y) in enumerate(shifts):
            stream.write("%4d  %8.2f  %8.2f\\n" % (number + 1, x, y))
if log and int(given["-patch"][0]) > 1:
    with open(log + "-Patch-Patch.log", "w") as stream:
        stream.write("# Patch based alignment\\n# Movie size: 32  32  9\\n\\n")
        for patch in range(16):
            x, y = (patch % 4 + 0.5) * size / 4, (patch // 4 + 0.5) * size / 4
            stream.write("#Patch %03d raw and fit shifts\\n" % (patch + 1))
            for z in range(len(frames)):
                u, v, bad = x / size - 0.5, y / size - 0.5, patch == 5
                fit = 99 * bad + 0.4 * z * u, 99 * bad - 0.2 * z * z * v
                stream.write("%4d %8.2f %8.2f " % (z + 1, x, y) + "%8.2f %8.2f %4d\\n" % (*fit, bad))
            stream.write("\\n")
'''
PATH = np.array([[0, 0], [1, -2], [2, -3], [3, -3], [3, -4], [4, -5]])
"""How far the specimen has gone, in pixels yx."""
PIXEL, DOSE = 2.0, 1.5
HOME = Path("results/motion/batches/0001")


@pytest.fixture(autouse=True)
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run folder with the program on the PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(write_program(Path("bin/MotionCor3"), STAND_IN.format(python=sys.executable)).parent))
    Path("raw of mine").mkdir()


def frames() -> np.ndarray:
    """A specimen that moves as PATH says, in counts."""
    specimen = np.random.default_rng(3).poisson(20, (32, 32))
    return np.array([np.roll(specimen, step, (0, 1)) for step in PATH]).astype(np.uint8)


def tiff(name: str, movie: np.ndarray) -> str:
    path = Path("raw of mine") / name
    with tifffile.TiffWriter(path) as stream:
        for frame in movie:
            stream.write(np.ascontiguousarray(frame[::-1]), photometric="minisblack", contiguous=False, metadata=None)
    return str(path)


def exposures(movies: list[str], **columns: Any) -> None:
    table = pd.DataFrame({"exposure_id": [f"e{number}" for number in range(len(movies))], "batch": "0001", "movie": movies})
    table = table.assign(frames=len(PATH), width_px=32, height_px=32, dose_per_frame=DOSE, pre_exposure=0.0, voltage_kv=300.0, cs_mm=2.7)
    table = table.assign(amplitude_contrast=0.1, movie_pixel_size=PIXEL, micrograph_pixel_size=PIXEL, **columns)
    write_table("results/movies/batches/0001/exposures.star", table, "exposures")


def run(kind: Any = motioncor, **settings: Any) -> Job:
    inputs = {"exposures": ["results/movies/batches/0001"]}
    with open_job(kind.Params, {"type": "motioncor", "exposures": "movies"} | settings, inputs, HOME, "motion", "0001", threads=1) as job:
        kind.run(job)
    return job


def corrected() -> pd.DataFrame:
    return read_table(HOME / "exposures.star", "exposures")


def told() -> dict[str, Any]:
    return dict(json.loads((HOME / "motioncor.json").read_text()))


def test_sums_and_shifts_come_back_as_patch_motion_writes_them() -> None:
    exposures([tiff("m.tif", frames())])
    job = run()
    row = corrected().iloc[0]
    shifts, field, pixel_size = read_motion(row["motion_star"])
    np.testing.assert_allclose(shifts, -PATH * PIXEL, atol=1e-4)
    assert (field, pixel_size) == (None, PIXEL)
    plain, _ = read_mrc(row["micrograph_plain"])
    np.testing.assert_array_equal(plain, len(PATH) * frames()[0].astype(np.float32))
    np.testing.assert_array_equal(read_mrc(row["micrograph"])[0], plain / 2)
    steps = np.linalg.norm(np.diff(PATH, axis=0), axis=1) * PIXEL
    assert row["motion_total"] == pytest.approx(steps.sum(), abs=1e-4)
    assert row["motion_early"] == pytest.approx(steps[:1].sum(), abs=1e-4)
    assert row["motion_late"] == pytest.approx(steps[1:].sum(), abs=1e-4)
    assert (row["width_px"], row["height_px"], row["micrograph_pixel_size"]) == (32, 32, PIXEL)
    assert sorted(path.name for path in HOME.iterdir()) == sorted(
        ["exposures.star", "figures", "job.json", "micrographs", "motion", "motioncor.json"]
    )
    assert len(job.figures) == 1


def test_shifts_and_columns_are_those_of_patch_motion() -> None:
    specimen = np.kron(np.random.default_rng(5).poisson(30, (64, 64)), np.ones((4, 4), dtype=int))
    movie = np.array([np.roll(specimen, step, (0, 1)) for step in PATH]).astype(np.uint8)
    exposures([tiff("m.tif", movie)], width_px=256, height_px=256)
    rows = []
    for kind, settings in ((patch_motion, {"local": False, "max_align_resolution": 8.0}), (motioncor, {})):
        run(kind, **settings)
        rows.append((corrected().iloc[0], read_motion(corrected().iloc[0]["motion_star"])[0]))
    (native, native_shifts), (other, shifts) = rows
    np.testing.assert_allclose(native_shifts, shifts, atol=0.3 * PIXEL)
    assert set(native.index) - set(other.index) == {"dose_counted"}
    assert set(other.index) <= set(native.index)


@pytest.mark.parametrize("logs", ["new", "old", "said"])
def test_shifts_are_found_wherever_a_version_leaves_them(logs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGS", logs)
    exposures([tiff("m.tif", frames())])
    run(patches_x=0, patches_y=0)
    np.testing.assert_allclose(read_motion(corrected().iloc[0]["motion_star"])[0], -PATH * PIXEL, atol=1e-4)


def test_shifts_of_patches_become_the_polynomial_of_relion() -> None:
    exposures([tiff("m.tif", frames())])
    run()
    blocks = read_star(corrected().iloc[0]["motion_star"])
    assert blocks["general"]["rlnMotionModelVersion"].iloc[0] == "1"
    model = blocks["local_motion_model"]["rlnMotionModelCoeff"].to_numpy()
    z, y, x = np.meshgrid(np.arange(len(PATH), dtype=float), np.array([-0.3, 0.1]), np.array([-0.4, 0.0, 0.35]), indexing="ij")
    terms = polynomial_terms(z, y, x)
    np.testing.assert_allclose(terms @ model[:18], 0.4 * z * x, atol=0.02)
    np.testing.assert_allclose(terms @ model[18:], -0.2 * z**2 * y, atol=0.02)


def test_all_that_is_told_stands_in_the_line() -> None:
    settings = {"exposures": "m", "patches_x": 7, "b_factor": 400, "start_frame": 1, "end_frame": 5, "f_crop": 0.5, "odd_even": True}
    params = motioncor.Params.model_validate(settings | {"arguments": ["-Group", "4"]})
    row = {"movie_pixel_size": 0.425, "voltage_kv": 200.0, "pre_exposure": 2.5, "dose_per_frame": 1.25, "frames": 6}
    references = motioncor.References("../gain0.mrc", "../defects0.txt")
    assert " ".join(motioncor.motioncor_arguments(params, row, "tiff", references, 2)) == (
        "-InTiff raw/movie.tif -OutMrc movie.mrc -LogDir logs/ -LogFile logs/movie -Patch 7 5 -Bft 400 150 -FtBin 2"
        " -PixSize 0.425 -kV 200 -FmRef 0 -OutStack 0 -SumRange 0 0 -InitDose 2.5 -FmDose 1.25 -Throw 1 -Trunc 1"
        " -Gain ../gain0.mrc -DefectFile ../defects0.txt -SplitSum 1 -Gpu 2 -Group 4"
    )
    plain = motioncor.Params.model_validate({"exposures": "m", "dose_weighting": False, "end_frame": 99})
    assert " ".join(motioncor.motioncor_arguments(plain, row, "mrc", motioncor.References(), 0)) == (
        "-InMrc raw/movie.mrc -OutMrc movie.mrc -LogDir logs/ -LogFile logs/movie -Patch 5 5 -Bft 500 150 -FtBin 1"
        " -PixSize 0.425 -kV 200 -FmRef 0 -OutStack 0 -SumRange 0 0 -Throw 0 -Trunc 0 -Gpu 0"
    )


def test_frames_left_out_are_counted_in_the_motion_star_and_the_dose() -> None:
    exposures([tiff("m.tif", frames())])
    run(start_frame=2, end_frame=5)
    row = corrected().iloc[0]
    block = read_star(row["motion_star"])["global_shift"]
    assert block["rlnMicrographFrameNumber"].tolist() == [3, 4, 5]
    np.testing.assert_allclose(read_motion(row["motion_star"])[0], -(PATH[2:5] - PATH[2]) * PIXEL, atol=1e-4)
    assert row["motion_early"] == 0


def test_the_gain_is_handed_on_as_it_lies_and_its_zeros_as_defects() -> None:
    gain = np.random.default_rng(1).uniform(0.8, 1.2, (32, 32)).astype(np.float32)
    gain[3, 5:9] = gain[31, 31] = 0
    write_image("gain.mrc", gain, PIXEL)
    stored = mrc_movie()
    exposures([stored, tiff("m.tif", np.array([frames()[0]] * len(PATH)))], gain="gain.mrc")
    run(executable="bin/MotionCor3")
    line = told()["arguments"][0]
    assert line[line.index("-Gain") + 1] == "../gain0.mrc"
    assert line[line.index("-DefectFile") + 1] == "../defects0.txt"
    sums = read_mrc(corrected().iloc[1]["micrograph_plain"])[0]
    good = gain > 0
    np.testing.assert_allclose(sums[good], (len(PATH) * frames()[0] * gain)[good], rtol=1e-5)
    assert (sums[~good] > 0).all()
    assert defect_lines(gain) == "5 3 4 1\n31 31 1 1\n"


def mrc_movie() -> str:
    write_stack("raw of mine/m.mrc", frames().astype(np.float32), PIXEL)
    return "raw of mine/m.mrc"


def test_cropped_micrographs_have_larger_pixels_and_odd_and_even_sums_their_columns() -> None:
    exposures([mrc_movie()])
    run(f_crop=0.5, odd_even=True, save_plain=False)
    row = corrected().iloc[0]
    assert (row["width_px"], row["height_px"], row["micrograph_pixel_size"]) == (16, 16, 2 * PIXEL)
    assert "micrograph_plain" not in row.index
    odd, even = (read_mrc(row[f"micrograph_{which}"])[0] for which in ("odd", "even"))
    np.testing.assert_allclose(odd / 2, even / 3)


def test_raw_frames_of_eer_are_summed_as_the_import_said() -> None:
    counts = np.random.default_rng(2).poisson(1.0, (13, 32, 32)).astype(np.uint8)
    raw = 13 * write_eer_movie(Path("raw of mine/m.eer"), counts, np.random.default_rng(3))
    exposures(["raw of mine/m.eer"], eer_fractions=6, eer_upsampling=4)
    run()
    line = told()["arguments"][0]
    assert line[line.index("-EerSampling") + 1] == "3"
    assert "-FmDose" not in line
    assert "-Throw" not in line
    assert len(read_motion(corrected().iloc[0]["motion_star"])[0]) == 6
    row = {"movie": "raw of mine/m.eer", "eer_fractions": 6, "dose_per_frame": DOSE}
    assert motioncor._fractions(row) == f"{raw} {raw // 6} {DOSE / (raw // 6):.6g}\n"
    with pytest.raises(InputError, match="MotionCor takes EER movies whole; leave start_frame and end_frame out"):
        run(start_frame=1)


def test_program_version_and_lines_are_recorded() -> None:
    exposures([tiff("a.tif", frames()), tiff("b.tif", frames())])
    run()
    assert told()["version"] == "MotionCor3 version 1.2.1"
    assert told()["program"] == str(Path("bin/MotionCor3").absolute())
    assert len(told()["arguments"]) == 1


def test_one_movie_that_fails_does_not_stop_the_batch() -> None:
    dark, bright = np.zeros((len(PATH), 32, 32), dtype=np.uint8), np.full((len(PATH), 32, 32), 250, dtype=np.uint8)
    Path("raw of mine/packed.mrc.bz2").write_bytes(b"x")
    movies = [
        tiff("dark.tif", dark),
        tiff("bright.tif", bright),
        "raw of mine/gone.tif",
        "raw of mine/packed.mrc.bz2",
        tiff("m.tif", frames()),
    ]
    exposures([*movies, tiff("short.tif", frames()[:4])])
    job = run()
    assert corrected()["exposure_id"].tolist() == ["e4"]
    failed = read_table(HOME / "failed.star", "failed")
    assert failed["reason_code"].tolist() == ["PROGRAM", "PROGRAM", "UNREADABLE", "NAME", "PROGRAM"]
    assert failed["reason"].tolist() == [
        f"{movies[0]}: MotionCor3: ended with exit code 6; its last line: Error: all frames are dark",
        f"{movies[1]}: the program told of no shifts; its last line: it said nothing",
        f"{movies[2]}: cannot be read (No such file or directory)",
        f"{movies[3]}: MotionCor reads TIFF, EER and MRC, not packed movies",
        "raw of mine/short.tif: the program told of the shifts of 4 frames, expected 6",
    ]
    assert job.metrics["exposures_failed"]["value"] == 5


def test_a_program_that_writes_no_weighted_sum_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("bin/MotionCor3")
    path.write_text(path.read_text().replace('sums["_DW"] = 0.5', "pass"))
    exposures([tiff("m.tif", frames())])
    run()
    assert read_table(HOME / "failed.star", "failed")["reason"].tolist() == [
        "raw of mine/m.tif: the program ended without an error, but wrote no sum movie_DW.mrc"
    ]


def test_a_program_that_hangs_is_given_up() -> None:
    path = Path("bin/MotionCor3")
    path.write_text(path.read_text().replace("words, given = ", 'print("waiting", flush=True)\ntime.sleep(600)\nwords, given = '))
    exposures([tiff("m.tif", frames())])
    run(time_limit_s=0.2)
    assert "MotionCor3: was stopped since it took longer than 0.2 s" in read_table(HOME / "failed.star", "failed")["reason"][0]


def test_a_program_that_corrects_none_of_several_movies_is_one_sentence() -> None:
    dark = np.zeros((len(PATH), 32, 32), dtype=np.uint8)
    exposures([tiff("a.tif", dark), tiff("b.tif", dark)])
    with pytest.raises(
        InputError, match=r"none of 2 movies could be corrected; the first: raw of mine/a.tif: MotionCor3: ended with exit code 6"
    ):
        run()
    assert not HOME.exists()


def test_a_program_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    exposures([tiff("m.tif", frames())])
    with pytest.raises(InputError, match="executable: 'nowhere/mc' is no program that can be run"):
        run(executable="nowhere/mc")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="none of the programs MotionCor3, MotionCor2, motioncor3, motioncor2 is on the PATH; install one"):
        run()
