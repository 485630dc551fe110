"""Picking and extraction: F1 against hand labels, and CPU time on a 4k micrograph.

Usage: python benchmarks/picking.py [--micrographs DIR --labels DIR --pixel-size 1.77 --diameter 180 --match-px 54 [--model PDB]]
Without arguments the apoferritin micrographs of the demo are picked. Given a folder of MRC micrographs and one of CSV files of the
same names with columns x_px and y_px, those are. Blobs lie between 0.75 and 1.1 diameters; templates are projections of the model.
Thresholds are found by inspect_picks alone. A pick is right when it matches a label one to one within match-px.
Times are CPU seconds (user and system) of one thread on a 4096 x 4096 micrograph of noise, reading from disk excluded.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import numpy as np
import pandas as pd
import torch

from apoferritin import LABELS, MATCH_PX, write_exposures
from firn.families.picking import reduce_exposure
from firn.formats.mrc import write_stack, write_volume
from firn.formats.tables import read_table, write_table
from firn.jobs import blob_picker, create_templates, inspect_picks, template_picker
from firn.kernels.templates import draw_blobs
from firn.preprocess.extract import cut_particles, repair_outliers
from firn.preprocess.junk import clean_pixels
from firn.preprocess.pick import Scene, Shape, pick, template_box, template_factors
from firn.preprocess.whiten import whiten
from firn.runtime.entry import open_job
from firn.simulate.molecule import molecule_volume, read_molecule
from firn.simulate.score import match_points


def main() -> None:
    """Score both pickers, then time the parts."""
    args = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        exposures, labels = read_data(args)
        run(blob_picker, "blobs", {"exposures": "ctf"}, min_diameter=0.75 * args.diameter, max_diameter=1.1 * args.diameter, plots=0)
        report("blobs", exposures, labels, args)
        if args.model:
            write_templates(args)
            run(template_picker, "matches", {"exposures": "ctf", "templates": "templates"}, diameter=args.diameter, plots=0)
            report("matches", exposures, labels, args)
        with torch.inference_mode():
            time_parts()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--micrographs", type=Path)
    parser.add_argument("--labels", type=Path, default=LABELS)
    parser.add_argument("--pixel-size", type=float, default=1.5)
    parser.add_argument("--diameter", type=float, default=130.0)
    parser.add_argument("--match-px", type=float, default=MATCH_PX)
    parser.add_argument("--model", type=Path, help="PDB or mmCIF file to make templates from")
    parser.add_argument("--symmetry", default="C1")
    return parser.parse_args()


def read_data(args: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Exposures, written to results/ctf, and labels xy by exposure."""
    if args.micrographs is None:
        exposures = write_exposures(Path("results/ctf"))
    else:
        paths = [path for path in sorted(args.micrographs.resolve().glob("*.mrc")) if (args.labels / f"{path.stem}.csv").exists()]
        exposures = pd.DataFrame(
            {"exposure_id": [path.stem for path in paths], "batch": "0001", "micrograph": [str(path) for path in paths]}
        )
        exposures = exposures.assign(optics_name="one", micrograph_pixel_size=args.pixel_size)
        write_table("results/ctf/exposures.star", exposures, "exposures")
    names = exposures[["exposure_id", "micrograph"]].itertuples(index=False)
    return exposures, {name: pd.read_csv(args.labels / f"{Path(path).stem}.csv")[["x_px", "y_px"]].to_numpy() for name, path in names}


def write_templates(args: argparse.Namespace) -> None:
    """Projections of the model, by create_templates."""
    pixel_size = args.diameter / 60
    Path("results/map").mkdir(parents=True)
    write_volume("results/map/map.mrc", molecule_volume(read_molecule(args.model, 3 * pixel_size), 96, pixel_size), pixel_size)
    run(create_templates, "templates", {"volume": "map"}, symmetry=args.symmetry)


def run(module: object, name: str, slots: dict[str, str], **settings: object) -> None:
    """One job of a session, its inputs named by slot."""
    inputs = {slot: [f"results/{source}"] for slot, source in slots.items()}
    with open_job(module.Params, slots | settings, inputs, Path(f"results/{name}"), name, threads=1) as job:  # type: ignore[attr-defined]
        module.run(job)  # type: ignore[attr-defined]


def report(name: str, exposures: pd.DataFrame, labels: dict[str, np.ndarray], args: argparse.Namespace) -> None:
    """Decide unattended, and print precision, recall and F1."""
    run(inspect_picks, f"{name}_kept", {"exposures": "ctf", "picks": name})
    picks = read_table(f"results/{name}_kept/picks.star", "picks")
    places = {each: picks.loc[picks["exposure_id"] == each, ["x_px", "y_px"]].to_numpy(dtype=float) for each in exposures["exposure_id"]}
    hits = sum(len(match_points(labels[each], found, args.match_px)[0]) for each, found in places.items() if len(found))
    precision, recall = hits / max(len(picks), 1), hits / sum(len(points) for points in labels.values())
    f1 = 2 * hits / (len(picks) + sum(len(points) for points in labels.values()))
    print(f"{name}: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f} ({len(picks)} picks)")


def time_parts() -> None:
    """CPU seconds of reducing, looking for junk, picking by 8 templates in 72 turns, and cutting, for 1 Å per pixel."""
    generator = torch.Generator().manual_seed(1)
    micrograph = torch.randn(4096, 4096, generator=generator)
    diameter, low_pass, row = 150.0, 20.0, {"micrograph_pixel_size": 1.0}
    reduced = timed("reduce", lambda: reduce_exposure(micrograph.numpy(), row, low_pass, diameter, micrograph.device))
    clean = timed("junk", lambda: clean_pixels(reduced, diameter))
    box = template_box(diameter, reduced.pixel_size)
    angles = torch.arange(0, 360, 5.0)
    shapes = [
        Shape(draw_blobs("ellipse", diameter, diameter * (0.3 + 0.05 * k), angles, box, reduced.pixel_size), angles, diameter)
        for k in range(8)
    ]
    factors = template_factors(box, reduced.pixel_size, low_pass, diameter, (15000.0, 14000.0, 30.0, 300.0, 2.7, 0.0, 0.1))
    white, factors = timed("whiten", lambda: whiten(reduced, factors, low_pass, diameter))
    timed("match 8 templates in 72 turns", lambda: pick(Scene(white, shapes, clean, factors), diameter / 2, 15.0, 4000))
    repaired = timed("repair", lambda: repair_outliers(micrograph, 8.0))
    centres = torch.randint(200, 3800, (500, 2), generator=generator)
    images = timed("cut 500 boxes of 256", lambda: torch.cat([part.clone() for part in cut_particles(repaired, centres, 256, 256, 0.75)]))
    timed("write 500 boxes of 256 as float16", lambda: write_stack("x.mrcs", images.numpy(), 1.0, float16=True))


def timed(name: str, work: Callable):
    """Result of the work, done twice; the faster CPU time is printed."""
    seconds = []
    for _ in range(2):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    print(f"{name}: {min(seconds):.2f} s")
    return result


if __name__ == "__main__":
    main()
