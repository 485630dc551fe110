"""Every reader of files from elsewhere, and a sound file for each: what the fuzz tests and benchmarks/fuzz.py share."""

import bz2
import gzip
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import tifffile

from firn.dag.catalogue import Catalogue
from firn.dag.collection import live_plan
from firn.dag.graph import Graph
from firn.dag.inputs import files, folders
from firn.dag.streams import stream_plan
from firn.errors import InputError
from firn.formats.aberrations import even_coefficients, optics_groups
from firn.formats.blobs import read_blobs, write_blobs
from firn.formats.cryosparc import particles_from_cs, particles_to_cs, read_cs, read_csg, write_cs, write_group
from firn.formats.decisions import read_decisions
from firn.formats.defects import read_defects
from firn.formats.exposures import load_micrograph
from firn.formats.foreign_ctf import read_ctffind, read_gctf, read_ring_profile
from firn.formats.foreign_particles import read_foreign
from firn.formats.foreign_picks import read_foreign_picks
from firn.formats.fsc import fsc_table, read_fsc, write_fsc
from firn.formats.gain import read_gain
from firn.formats.motion_star import MovieInfo, SplineField, first_frame, read_motion, write_motion
from firn.formats.motioncor_log import read_full_shifts, read_patch_shifts
from firn.formats.movie import iterate_frames, read_header
from firn.formats.mrc import read_mrc, read_sections, write_image, write_stack, write_volume
from firn.formats.particles import read_particles
from firn.formats.sidecar import read_sidecar
from firn.formats.star import read_star
from firn.formats.tables import image_names, read_table, split_image_names, write_table
from firn.formats.volumes import read_volume
from firn.formats.yaml_text import read_yaml
from firn.jobs import inspect_picks, select_2d
from firn.live.control import read_control
from firn.runtime.leases import devices_of
from firn.simulate.write_eer import write_eer_movie
from formats.fuzz_damage import Step, damaged
from formats.fuzz_relion import READS as RELION
from formats.fuzz_relion import write_beside

ROOT = Path(__file__).resolve().parents[2]
COUNTS = np.random.default_rng(1).poisson(2.0, (3, 20, 32)).astype(np.uint8)
CUBE = np.random.default_rng(2).normal(size=(8, 8, 8)).astype(np.float32)
SHAPE = (20, 32)
LONGEST_SENTENCE = 2000


@dataclass(frozen=True)
class Reader:
    """name and ending of the file; how a sound one is written; all that reads it; whether it is text; how it is packed after the damage."""

    name: str
    file: str
    write: Callable[[Path], object]
    reads: tuple[Callable[[Path], object], ...]
    text: bool = False
    pack: Callable[[bytes], bytes] | None = None


def outcome(reader: Reader, path: Path) -> str:
    """`read` or `refused`; AssertionError when what is said is not one sentence, and any other error as it comes."""
    refused = False
    for read in reader.reads:
        said = _said(read, path)
        refused = refused or said is not None
        if said is not None:
            sentences = said.split("\n") if reader.name == "session" else [said]
            assert all(sentences), "an error without a sentence"
            assert not any(set(sentence) & set("\n\r") for sentence in sentences), f"more than one line: {said!r}"
            longest = max(len(sentence) for sentence in sentences)
            assert longest < LONGEST_SENTENCE + len(str(path)), f"{longest} letters: {said[:300]!r}"
    return "refused" if refused else "read"


def _said(read: Callable[[Path], object], path: Path) -> str | None:
    try:
        read(path)
    except InputError as error:
        return str(error)
    return None


def _movie(path: Path) -> None:
    read_header(path, eer_fractions=3)
    for _ in iterate_frames(path, eer_fractions=3):
        pass


def _fine_movie(path: Path) -> None:
    for _ in iterate_frames(path, eer_fractions=1, eer_upsampling=4, threads=2):
        pass


def _movie_by_threads(path: Path) -> None:
    for _ in iterate_frames(path, threads=2):
        pass


def _write_tiff(compression: str | None, kind: type = np.uint8, **options: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        bigtiff = bool(options.pop("bigtiff", False))
        with tifffile.TiffWriter(path, bigtiff=bigtiff) as tiff:
            for frame in COUNTS.astype(kind):
                tiff.write(frame, compression=compression, photometric="minisblack", contiguous=False, metadata=None, **options)

    return write


def _write_mrc(kind: type) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(COUNTS.astype(kind))

    return write


def _write_eer(path: Path) -> None:
    write_eer_movie(path, np.repeat(COUNTS, 2, axis=0), np.random.default_rng(2), pixel_size=1.0)


CTFFIND = "# Output from CTFFind version 4.1.14\n1.000000 10295.926758 10012.275391 -38.856349 0.000000 0.030650 5.279412\n"
GCTF = "Defocus_U Defocus_V Angle CCC\n 24401.23 21649.58 34.52 0.180863  Final Values\n\nResolution limit estimated by EPA: 3.464\n"
FALCON = "<defects><row>3</row><col>5-6</col><area>1,2,4,4</area><point>7,7</point></defects>"


def _write_falcon(path: Path) -> None:
    tifffile.imwrite(path, np.full(SHAPE, 1.1, np.float32), metadata=None, extratags=[(65100, "s", 0, FALCON, True)])


def _write_gain(path: Path) -> None:
    write_image(path, np.random.default_rng(4).uniform(0.9, 1.1, SHAPE).astype(np.float32), 1.0)


def particle_table(folder: Path) -> pd.DataFrame:
    """Four particles in a stack in the folder."""
    stack = folder / "stack.mrcs"
    if not stack.exists():
        write_stack(stack, np.random.default_rng(3).normal(size=(4, 16, 16)).astype(np.float32), 1.5)
    optics = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "image_pixel_size": 1.5, "box_px": 16, "dimensionality": 2}
    numbers = np.arange(4)
    return pd.DataFrame(
        {
            "image": image_names("stack.mrcs", 4),
            "particle_id": [f"e0-{number}" for number in numbers],
            "exposure_id": "e0",
            "batch": "0001",
            "micrograph": "a b.mrc",
            "x_px": 3.0 * numbers,
            "y_px": 2.0 * numbers,
            "defocus_u": 10000.0 + numbers,
            "defocus_v": 9000.0,
            "defocus_angle": 30.0,
            "phase_shift": 0.0,
            "rot": 10.0 * numbers,
            "tilt": 20.0,
            "psi": 30.0,
            "origin_x": 1.0,
            "origin_y": -1.0,
            "class_number": 1,
            "half": 1 + numbers % 2,
            "even_zernike": "[0,0,1.5]",
            "beam_tilt_x": 0.1,
            "beam_tilt_y": 0.0,
            **optics,
        }
    )


def _write_particles(path: Path) -> None:
    write_table(path, particle_table(path.parent), "particles")


def _write_cs(path: Path) -> None:
    write_cs(path, particles_to_cs(particle_table(path.parent), {"a b.mrc": (100, 200)}))


def _write_csg(path: Path) -> None:
    table = particle_table(path.parent)
    fields = particles_to_cs(table, {"a b.mrc": (100, 200)})
    write_cs(path.parent / "p.cs", fields)
    write_group(path, "particles", "p.cs", fields)


def _write_exposures(path: Path) -> None:
    optics = {"voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "micrograph_pixel_size": 1.5}
    rows = {"exposure_id": ["e0", "e1"], "batch": ["0001", "0001"], "micrograph": ["a.mrc", "b c.mrc"], "width_px": [32, 32]}
    write_table(path, pd.DataFrame({**rows, "defocus_u": [1e4, 2e4], **optics}), "exposures")


def _write_motion(path: Path) -> None:
    info = MovieInfo("m.tif", None, 32, 20, 3, 1, 1.0, 1.2, 1.0, 0.0, 300.0)
    field = SplineField(np.zeros((4, 4, 4, 2)), np.linspace(0, 1, 3))
    write_motion(path, info, np.zeros((3, 2)), field, np.zeros((3, 9, 9, 2)))


def _write_fsc(path: Path) -> None:
    write_fsc(path, fsc_table({"corrected": np.linspace(1, 0, 9)}, 16, 1.5))


MDOC = """PixelSpacing = 0.83
Voltage = 300
[FrameSet = 0]
ExposureDose = 50.5
NumSubFrames = 40
ImageShift = 0.1 -0.2
"""
EPU = """<?xml version="1.0"?><MicroscopeImage xmlns="http://x" xmlns:a="http://y"><microscopeData><gun>
<AccelerationVoltage>300000</AccelerationVoltage></gun><optics><BeamShift><a:_x>0.1</a:_x><a:_y>0.2</a:_y></BeamShift></optics>
<ReadoutArea><a:height>4096</a:height><a:width>4096</a:width></ReadoutArea></microscopeData>
<SpatialScale><pixelSize><x><numericValue>8.3e-11</numericValue></x></pixelSize></SpatialScale><CustomData>
<a:KeyValueOfstringanyType><a:Key>Dose</a:Key><a:Value>5.0e+21</a:Value></a:KeyValueOfstringanyType></CustomData>
<NumberOffractions>40</NumberOffractions></MicroscopeImage>"""
SERIALEM = "CameraSizeX 32\nCameraSizeY 20\nRotationFlip 0\nUsableArea 0 0 19 31\nBadColumns 3 5 7\nBadRows 2\nBadPixels 1 2 3 4\nPartialBadColumn 9 1 5 7\n"
CONTROL = """state: run
reason: "to see"
settle_s: 5
thresholds:
  ctf_fit_resolution: {max: 6}
  motion_total: {min: 0, max: 100}
reject: [a.tif, "b c.tif"]
streams: {enabled: true, first_2d: 100}
alarms: {failure_percent: 5}
"""
SESSION = """seed: 1
title: a session
jobs:
  movies: {type: import_movies, files: "raw/*.tif", gain: raw/gain.mrc, pixel_size: 0.83, voltage_kv: 300, cs_mm: 2.7, dose_per_frame: 1.2}
  motion: {type: patch_motion, exposures: movies}
  ctf: {type: patch_ctf, exposures: motion}
  good: {type: curate_exposures, exposures: ctf, max_ctf_fit: 6}
  blobs: {type: blob_picker, exposures: good, min_diameter: 120, max_diameter: 160}
  stack: {type: extract_particles, exposures: good, picks: blobs, box_px: 256, crop_to_px: 128}
  class2d: {type: classify_2d, particles: stack, classes: 50}
  keep: {type: select_2d, particles: class2d, templates: class2d}
  start: {type: ab_initio, particles: keep, classes: 3}
  sorted: {type: refine_heterogeneous, particles: keep, volumes: [start]}
  map: {type: refine_nonuniform, particles: sorted.class_1, volume: sorted.class_1, symmetry: D7}
"""


PICKS = {
    "a.box": "10 20 64 64\n30 40 64 64\n",
    "a.cbox": "data_global\n\n_cbox_format_version 1.0\n\ndata_cryolo\n\nloop_\n_CoordinateX #1\n_CoordinateY #2\n_Width #3\n_Height #4\n"
    "_Confidence #5\n_Angle #6\n10.5 20 64 64 0.9 <NA>\n30 40 64 64 0.2 <NA>\n",
    "a.star": "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnAutopickFigureOfMerit #3\n10.5 20 0.9\n30 40 0.2\n",
    "a.txt": "image_name\tx_coord\ty_coord\tscore\na\t10\t20\t3.5\nb\t30\t40\t-1.5\n",
    "a.csv": "micrograph,x_px,y_px\na.mrc,10,20\nb.mrc,30,40\n",
}


def _text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content, encoding="utf-8")


CATALOGUE = Catalogue(ROOT / "config" / "schema.json")


def _session(path: Path) -> None:
    """A config, if it is one: what is no mapping never comes to firn, since Snakemake reads it first."""
    config = read_yaml(path, "a session")
    if isinstance(config, dict):
        read_session(config)


def read_session(config: dict[str, object]) -> Graph:
    """All that is asked of a session while Snakemake builds the graph."""
    graph = Graph(config, CATALOGUE)
    for job in graph.order:
        files(graph, job)
        folders(graph, job)
        graph.settings(job)
    live_plan(graph)
    stream_plan(graph)
    return graph


def _table(kind: str) -> Callable[[Path], object]:
    return lambda path: read_table(path, kind)


def _optics(path: Path) -> None:
    table = read_particles(path)
    optics_groups(table)
    even_coefficients(table)
    split_image_names(table["image"])


READERS = (
    Reader("TIFF raw", "a.tif", _write_tiff(None, np.uint16), (_movie,)),
    Reader("TIFF LZW", "a.tif", _write_tiff("lzw", rowsperstrip=7), (_movie, _movie_by_threads)),
    Reader("TIFF deflate", "a.tif", _write_tiff("zlib", rowsperstrip=7), (_movie,)),
    Reader("TIFF zstd", "a.tif", _write_tiff("zstd"), (_movie,)),
    Reader("TIFF tiled, big, float", "a.tif", _write_tiff("lzw", np.float32, tile=(16, 16), bigtiff=True), (_movie,)),
    Reader("EER", "a.eer", _write_eer, (_movie, _fine_movie)),
    Reader("MRC movie", "a.mrc", _write_mrc(np.int16), (_movie,)),
    Reader(
        "MRC map",
        "a.mrc",
        lambda path: write_volume(path, CUBE, 1.5),
        (read_mrc, read_volume, lambda path: read_sections(path, np.array([0, 7]))),
    ),
    Reader("MRC micrograph", "a.mrc", _write_gain, (lambda path: load_micrograph({"micrograph": path}),)),
    Reader("MRC gz, packed after", "a.mrc.gz", _write_mrc(np.int16), (_movie,), pack=lambda data: gzip.compress(data, 1, mtime=0)),
    Reader("MRC bz2, packed after", "a.mrc.bz2", _write_mrc(np.int16), (_movie, _movie_by_threads), pack=bz2.compress),
    Reader("MRC gz", "a.mrc.gz", lambda path: path.write_bytes(_packed_movie(path, gzip.compress)), (_movie,)),
    Reader("MRC bz2", "a.mrc.bz2", lambda path: path.write_bytes(_packed_movie(path, bz2.compress)), (_movie, _movie_by_threads)),
    Reader("gain .gain", "a.gain", _write_falcon, (read_gain, lambda path: read_gain(path, True, True))),
    Reader("gain TIFF", "a.tif", _write_falcon, (read_gain,)),
    Reader("gain MRC", "a.mrc", _write_gain, (read_gain,)),
    Reader("STAR exposures", "a.star", _write_exposures, (_table("exposures"), _table("failed")), text=True),
    Reader("STAR particles", "a.star", _write_particles, (_optics, lambda path: read_foreign(path, None, {}, False)), text=True),
    Reader("STAR bytes", "a.star", _write_particles, (read_star, lambda path: read_foreign(path, None, {}, True))),
    Reader("STAR motion", "a.star", _write_motion, (read_motion, first_frame), text=True),
    Reader("STAR FSC", "a.star", _write_fsc, (read_fsc,), text=True),
    Reader(
        ".cs", "a.cs", _write_cs, (lambda path: particles_from_cs(read_cs(path), path), lambda path: read_foreign(path, None, {}, False))
    ),
    Reader(".csg", "a.csg", _write_csg, (read_csg, lambda path: read_foreign(path, None, {}, False)), text=True),
    *(Reader(f"picks {Path(name).suffix}", name, _text(content), (read_foreign_picks,), text=True) for name, content in PICKS.items()),
    *(Reader(f"RELION {name}", name, partial(write_beside, content=text), (read,), text=True) for name, (text, read) in RELION.items()),
    Reader("mdoc", "a.mdoc", _text(MDOC), (read_sidecar,), text=True),
    Reader("EPU XML", "a.xml", _text(EPU), (read_sidecar,), text=True),
    Reader("defects, rows", "a.txt", _text("1 2 3 4\n5 6\n# comment\n7,8,1,1\n"), (lambda path: read_defects(path, SHAPE),), text=True),
    Reader("defects, SerialEM", "a.txt", _text(SERIALEM), (lambda path: read_defects(path, SHAPE),), text=True),
    Reader("CTFFIND fit", "a.txt", _text(CTFFIND), (lambda path: read_ctffind(path, 30.0),), text=True),
    Reader("CTFFIND averages", "a.txt", _text("# rows\n" + "0.1 0.2 0.3\n" * 6), (read_ring_profile,), text=True),
    Reader("Gctf log", "a.log", _text(GCTF), (read_gctf,), text=True),
    Reader("MotionCor frames", "a.log", _text("# a\n   1   0.00   0.00\n   2   -1.25   3.50\n"), (read_full_shifts,), text=True),
    Reader(
        "MotionCor patches", "a.log", _text("#Patch 001\n 1 4.0 4.0 0.0 0.0 0\n 2 4.0 4.0 1.5 -0.2 0\n"), (read_patch_shifts,), text=True
    ),
    Reader("decisions YAML", "a.yaml", _text("e0: accept\na.mrc: reject\n'b c.mrc': true\n"), (read_decisions,), text=True),
    Reader("decisions CSV", "a.csv", _text("exposure_id,decision\ne0,accept\ne1,reject\n"), (read_decisions,), text=True),
    Reader("blobs", "a.yaml", lambda path: write_blobs(path, 100, 150, "a reason", {100.0: 1.0}), (read_blobs,), text=True),
    Reader(
        "decisions on classes",
        "a.yaml",
        _text("select: [1, 2]\nreject: [3]\n"),
        (lambda path: select_2d._read_decisions(str(path), [1, 2, 3, 4]),),
        text=True,
    ),
    Reader(
        "decisions on picks",
        "a.yaml",
        _text("min_ncc: 0.3\nmax_power: 5\nreject: [e0]\n"),
        (lambda path: inspect_picks._read_decisions(str(path)),),
        text=True,
    ),
    Reader(
        "lanes.yaml",
        "a.yaml",
        _text("preprocess: [0]\nreconstruct: [1, 0]\n"),
        (lambda path: devices_of("preprocess", path, 2),),
        text=True,
    ),
    Reader("control.yaml", "control.yaml", _text(CONTROL), (read_control,), text=True),
    Reader("session", "session.yaml", _text(SESSION), (_session,), text=True),
)


def _packed_movie(path: Path, pack: Callable[[bytes], bytes]) -> bytes:
    plain = path.with_name("plain.mrc")
    _write_mrc(np.int16)(plain)
    return pack(plain.read_bytes())


def sound_bytes(reader: Reader, folder: Path) -> bytes:
    """The bytes of the reader's sound file, which is left in the folder with what it names."""
    path = folder / reader.file
    reader.write(path)
    return path.read_bytes()


def try_one(reader: Reader, path: Path, data: bytes, steps: Iterable[Step]) -> str:
    """Damage the bytes, write them to the path, read them."""
    content = damaged(data, steps)
    path.write_bytes(reader.pack(content) if reader.pack else content)
    return outcome(reader, path)
