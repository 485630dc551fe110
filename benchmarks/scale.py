"""Time and memory of particle jobs against the number of particles and the box, beside the memory that the jobs predict.

    python benchmarks/scale.py --jobs reconstruct classify_2d --counts 1000 10000 100000 --boxes 64 128 256

Every point runs in a process of its own on one thread. --counts are run at the first of --boxes, the other --boxes with --box-count
particles. Stacks are made of --distinct simulated particles again and again, each time with new noise: time and memory do not depend on
what is in the images, beyond how sharply they show their poses. All boxes show the same field of view, so that larger ones have smaller
pixels. Refinements run for --iterations, everything else is as a user has it. Prints CPU seconds (user and system, of the job alone), the
steps that took most of them, peak resident memory and the prediction; last, per job, the exponent p of time = a + b N^p.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

FIELD = 192.0
"""Å. Side of every box."""
PER_MICROGRAPH, MICROGRAPH_PX = 250, 2048
STACK = {"particles": "stack"}
SEARCH = STACK | {"particle_diameter": 140.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "reconstruct": STACK,
    "classify_2d": STACK | {"particle_diameter": 140.0},
    "classify_3d": STACK | {"resolution": 10.0},
    "refine_homogeneous": SEARCH | {"volume": "start"},
    "refine_nonuniform": SEARCH | {"volume": "start"},
    "refine_local": STACK | {"volume": "start", "mask": "start"},
    "refine_heterogeneous": SEARCH | {"volumes": ["start", "start"]},
    "ab_initio": STACK | {"particle_diameter": 140.0},
    "extract_particles": {"exposures": "field", "picks": "field"},
}
SLOTS = ("particles", "volume", "volumes", "mask", "exposures", "picks")
ITERATED = ("classify_3d", "refine_homogeneous", "refine_nonuniform", "refine_local", "refine_heterogeneous")


def main() -> None:
    """Run all points and print the table and the exponents."""
    options = parse()
    if options.point:
        job, count, box = options.point[0], int(options.point[1]), int(options.point[2])
        prepare(options, job, count, box) if options.prepare else measure(options, job, count, box)
        return
    points = [(count, options.boxes[0]) for count in options.counts] + [(options.box_count, box) for box in options.boxes[1:]]
    print("| job | N | box | CPU s | most of it | peak GB | predicted GB |\n|---|---|---|---|---|---|---|")
    for job in options.jobs:
        seconds = []
        for count, box in points:
            result = run_point(options, job, count, box)
            seconds.append(result["cpu"])
            steps = ", ".join(f"{name} {100 * share:.0f} %" for name, share in result["steps"])
            told = "–" if result["predicted"] is None else f"{result['predicted']:.2f}"
            print(f"| {job} | {count:,} | {box} | {result['cpu']:.1f} | {steps} | {result['peak']:.2f} | {told} |", flush=True)
        if len(options.counts) > 2:
            report_exponent(job, options.counts, seconds[: len(options.counts)])


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--counts", nargs="+", type=int, default=[1000, 3000, 10000])
    parser.add_argument("--boxes", nargs="+", type=int, default=[64, 96, 128, 192, 256])
    parser.add_argument("--box-count", type=int, default=1000, help="particles in the boxes after the first")
    parser.add_argument("--distinct", type=int, default=500)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--classes", type=int, default=20, help="of classify_2d")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/scale"))
    parser.add_argument("--point", nargs=3, metavar=("JOB", "N", "BOX"), help="one point, in this process")
    parser.add_argument("--prepare", action="store_true", help="make the data of the point only")
    return parser.parse_args()


def run_point(options: argparse.Namespace, job: str, count: int, box: int) -> dict[str, Any]:
    """Make the data of a point and measure it, each in a process of its own; this one stays small."""
    command = [sys.executable, str(Path(__file__).resolve()), "--point", job, str(count), str(box), "--out", str(options.out)]
    for name in ("distinct", "iterations", "classes"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    folder = options.out / f"box_{box}"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{job}_{count}.log"
    for step in (["--prepare"], []):
        with log.open("a") as errors:
            done = subprocess.run([*command, *step], env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
        if done.returncode:
            sys.exit(f"{job} with {count} particles of {box} px failed: see {log}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def report_exponent(job: str, counts: Sequence[int], seconds: Sequence[float]) -> None:
    """One line: p, what a job costs without particles, and what a thousand of them cost, from the best relative fit with a, b >= 0."""
    import numpy as np
    from scipy.optimize import nnls

    number, spent = np.asarray(counts, float), np.asarray(seconds)
    fits = []
    for power in np.arange(0.5, 1.6, 0.01):
        matrix = np.stack((np.ones_like(number), (number / 1000) ** power), axis=1) / spent[:, None]
        factors, misfit = nnls(matrix, np.ones_like(spent))
        fits.append((misfit, power, *factors))
    misfit, power, fixed, each = min(fits)
    print(
        f"\n{job}: time = {fixed:.1f} s + {each:.2f} s (N / 1000)^{power:.2f}, within {100 * misfit / len(spent) ** 0.5:.0f} %\n",
        flush=True,
    )


def prepare(options: argparse.Namespace, job: str, count: int, box: int) -> None:
    """The input folders of a point, those that are there already being kept."""
    from firn.jobs import simulate_particles
    from firn.runtime.entry import open_job

    os.chdir(options.out / f"box_{box}")
    settings = {"particles": options.distinct, "box_px": box, "pixel_size": FIELD / box, "snr": 0.1}
    if not Path("results/distinct").exists():
        with open_job(simulate_particles.Params, settings, {}, Path("results/distinct"), "distinct", threads=1) as simulation:
            simulate_particles.run(simulation)
    if not Path("start").exists():
        write_start()
    if job == "extract_particles":
        write_field(count)
    elif not Path(f"stack_{count}").exists():
        write_stack_of(count)


def write_start() -> None:
    """The true map, with a ball as its mask."""
    import numpy as np

    from firn.formats.mrc import read_mrc, write_volume

    volume, pixel_size = read_mrc("results/distinct/truth/model.mrc")
    axis = (np.arange(len(volume)) - len(volume) // 2) * pixel_size
    distance = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    write_volume("start/map.mrc", volume, pixel_size)
    write_volume("start/mask.mrc", np.clip((80 - distance) / 10, 0, 1).astype(np.float32), pixel_size)


def write_stack_of(count: int) -> None:
    """particles.mrcs (float16) and particles.star with the true poses, in stack_<count>."""
    import numpy as np
    import pandas as pd

    from firn.formats.ids import half_set
    from firn.formats.mrc import read_mrc, write_stack_parts
    from firn.formats.tables import image_names, read_table, write_table

    images, pixel_size = read_mrc("results/distinct/particles.mrcs")
    chance, distinct = np.random.default_rng(1), len(images)

    def parts() -> Iterator[np.ndarray]:
        for start in range(0, count, distinct):
            chosen = images[: count - start]
            yield chosen + 0.5 * images.std() * chance.standard_normal(chosen.shape, np.float32)

    folder = f"stack_{count}"
    Path(folder).mkdir()
    write_stack_parts(f"{folder}/particles.mrcs", parts(), (count, *images.shape[1:]), pixel_size, float16=True)
    table = read_table("results/distinct/truth/particles.star", "particles")
    table = pd.concat([table] * -(-count // distinct), ignore_index=True)[:count]
    names = [f"{number:08x}" for number in range(count)]
    table = table.assign(image=image_names(f"{folder}/particles.mrcs", count), particle_id=names, half=[half_set(name) for name in names])
    write_table(f"{folder}/particles.star", table, "particles")


def write_field(count: int) -> None:
    """One micrograph under many names, each with a part of the picks, in field_<count>; picks lie anywhere a box fits."""
    import numpy as np
    import pandas as pd

    from firn.formats.mrc import write_image
    from firn.formats.tables import write_table

    chance, folder = np.random.default_rng(2), f"field_{count}"
    if not Path("micrograph.mrc").exists():
        write_image("micrograph.mrc", chance.standard_normal((MICROGRAPH_PX, MICROGRAPH_PX), np.float32), 1.0)
    names = [f"e{number:06d}" for number in range(-(-count // PER_MICROGRAPH))]
    optics = {"optics_name": "o", "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1, "micrograph_pixel_size": 1.0}
    ctf = {"defocus_u": 15000.0, "defocus_v": 14000.0, "defocus_angle": 30.0, "phase_shift": 0.0}
    exposures = pd.DataFrame({"exposure_id": names, "batch": "0001", "micrograph": "micrograph.mrc", **ctf, **optics})
    write_table(f"{folder}/exposures.star", exposures, "exposures")
    x, y = chance.uniform(200, MICROGRAPH_PX - 200, (2, count))
    owner = np.repeat(names, PER_MICROGRAPH)[:count]
    picks = pd.DataFrame({"exposure_id": owner, "batch": "0001", "micrograph": "micrograph.mrc", "x_px": x, "y_px": y, "pick_score": 0.5})
    write_table(f"{folder}/picks.star", picks.assign(**optics), "picks")


def measure(options: argparse.Namespace, job_type: str, count: int, box: int) -> None:
    """Run the job of a point and print what it took as JSON."""
    import importlib

    from firn.runtime.entry import open_job

    module = importlib.import_module(f"firn.jobs.{job_type}")
    os.chdir(options.out / f"box_{box}")
    settings = SETTINGS[job_type] | ({"iterations": options.iterations} if job_type in ITERATED else {})
    settings |= {"classify_2d": {"classes": options.classes}, "extract_particles": {"box_px": box}}.get(job_type, {})
    slots = {name: settings[name] for name in SLOTS if name in settings}
    folders = {"stack": f"stack_{count}", "field": f"field_{count}", "start": "start"}
    inputs = {name: [folders[one] for one in (value if isinstance(value, list) else [value])] for name, value in slots.items()}
    home, before = Path("results") / job_type, time.process_time()
    with open_job(module.Params, settings, inputs, home, job_type, threads=1) as job:
        course = course_of(job)
        module.run(job)
    cpu = time.process_time() - before
    steps = sorted(((name, spent / cpu) for name, spent in course.steps.items()), key=lambda step: -step[1])[:2]
    print(json.dumps({"cpu": cpu, "steps": steps, "peak": peak_gb(), "predicted": course.needs}))


def course_of(job: Any) -> Any:
    """Have the job's progress add up the CPU seconds of each step, and keep what memory it foretold; returns it."""
    from firn.runtime.progress import Progress

    class Course(Progress):
        """Progress that knows where the time went; steps of different iterations are one."""

        def __init__(self, path: Path, label: str):
            super().__init__(path, label)
            self.steps: dict[str, float] = defaultdict(float)
            self.needs: float | None = None

        def note(self, **fields: Any) -> None:
            self.needs = fields.get("needs_gb", self.needs)
            super().note(**fields)

        def over(self, items: Iterable[Any], step: str, total: int | None = None) -> Iterator[Any]:
            name, before = re.sub(r"particles, | \d+", "", step), time.process_time()
            try:
                yield from super().over(items, step, total)
            finally:
                self.steps[name] += time.process_time() - before

    job.progress = Course(job.progress.folder.with_suffix(".jsonl"), job.name)
    return job.progress


def peak_gb() -> float:
    """Peak resident memory of this program; unlike ru_maxrss without that of the one which started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 / 1e9 if found else float("nan")


if __name__ == "__main__":
    main()
