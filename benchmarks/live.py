"""What a live session costs when it is long: time from a complete movie to the start of its job, and CPU of Snakemake and of ticks.

    python benchmarks/live.py --exposures 100 1000 10000 --movies 6

Each session is given a past of so many finished exposures (batches of ten, stub results); then single movies land, and each makes a batch whose
only job is the import. Printed per length: median seconds from the batch being cut to the job's process, and from the movie being complete on
disk to the same (without the time to settle, which is set to 0); the CPU time that a batch costs beside that of its job, between a landing
and all of it being taken up: Snakemake's, that of its tick from the start of its process (one for each batch here, since movies come singly;
one tick cuts all batches that wait), and that of all other processes that Snakemake starts; and Snakemake's greatest memory.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from firn.formats.ids import exposure_id
from firn.live import layout
from firn.runtime.atomic import write_json
from firn.simulate.write_movie import write_tiff_movie

ROOT = Path(__file__).resolve().parents[1]
IMPORT = {
    "type": "import_movies",
    "files": "raw/*.tif",
    "pixel_size": 1.0,
    "voltage_kv": 300,
    "cs_mm": 2.7,
    "dose_per_frame": 1.0,
    "batch_size": 1,
}
CONTROL = {"settle_s": 0, "poll_s": 0.1, "quiet_min": None, "alarms": {"disk_free_gb": 0}}
SETTLED_S = 1.0
"""For the end of a job to be taken up by Snakemake after its result is there."""
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Watch:
    """When the process of each import started, and CPU seconds of each import and tick, by process."""

    imports: dict[int, float] = field(default_factory=dict)
    jobs: dict[int, float] = field(default_factory=dict)
    ticks: dict[int, float] = field(default_factory=dict)

    def look(self, folder: Path) -> None:
        """Look through the processes that run in the folder."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(entry / "cwd") != str(folder):
                    continue
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "import_batch" in words:
                self.imports.setdefault(int(entry.name), began(int(entry.name)))
                self.jobs[int(entry.name)] = cpu_of(int(entry.name)) or self.jobs.get(int(entry.name), 0.0)
            elif words.rstrip("\0").endswith("tick.py"):
                self.ticks[int(entry.name)] = cpu_of(int(entry.name)) or self.ticks.get(int(entry.name), 0.0)


def began(process: int) -> float:
    """When a process started, in seconds since 1970, to a hundredth."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - since_boot + int(fields[19]) / TICKS_PER_SECOND


def cpu_of(process: int, first: int = 11) -> float:
    """CPU seconds of a process so far, 0 when it is gone; first 13: of those that it started and that have ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[first]) + int(fields[first + 1])) / TICKS_PER_SECOND


def memory_mb(process: int) -> float:
    """Peak resident memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def give_past(exposures: int) -> None:
    """Batches of ten that are finished, as a session leaves them."""
    for number in range(1, exposures // 10 + 1):
        batch = f"{number:04d}"
        paths = [f"raw/past_{number:05d}_{place}.tif" for place in range(10)]
        files = [{"path": path, "found": 1.0, "complete": 1.0, "shape": "4 64 64"} for path in paths]
        write_json(layout.batch_file("movies", batch), {"import": "movies", "batch": batch, "cut": 1.0, "files": files})
        numbers = {"motion_total": 10.0, "ctf_fit_resolution": 4.0, "defocus": 12000.0}
        outcomes = [{"exposure_id": exposure_id(path), "movie": path, "numbers": numbers, "code": "", "reason": ""} for path in paths]
        write_json(layout.LIVE / "outcomes" / "movies" / f"{batch}.json", outcomes)
        for path in paths:
            Path(path).touch()
    folder = layout.result_file("movies", layout.FIRST_BATCH).parent
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}\n")


def measure(folder: Path, exposures: int, movies: int) -> None:
    """Run one session and print its line."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "raw").mkdir(parents=True)
    os.chdir(folder)
    Path("session.yaml").write_text(yaml.safe_dump({"jobs": {"movies": IMPORT}}))
    layout.LIVE.mkdir()
    layout.CONTROL.write_text(yaml.safe_dump(CONTROL))
    give_past(exposures)
    log = (folder / "snakemake.log").open("w")
    command = [
        str(Path(sys.executable).with_name("snakemake")),
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--profile",
        str(ROOT / "profiles/local"),
    ]
    process = subprocess.Popen([*command, "live", "--configfile", "session.yaml"], stdout=log, stderr=log)
    watch, landed = Watch(), {}
    wait(lambda: layout.SESSION.exists(), process, watch, folder)
    first = exposures // 10 + 1
    for number in range(movies + 1):
        if number == 1:
            before, ended, done, ticked = cpu_of(process.pid), cpu_of(process.pid, 13), sum(watch.jobs.values()), set(watch.ticks)
        batch = f"{first + number:04d}"
        landed[batch] = land(number)
        wait(lambda batch=batch: layout.outcome_file("movies", batch).exists(), process, watch, folder)
        time.sleep(SETTLED_S)
    own, memory = (cpu_of(process.pid) - before) / movies, memory_mb(process.pid)
    jobs, ended = (sum(watch.jobs.values()) - done) / movies, (cpu_of(process.pid, 13) - ended) / movies
    ticks = statistics.mean(watch.ticks[tick] for tick in sorted(ticked)[-1:] + sorted(set(watch.ticks) - ticked)[:-1])
    layout.END_MARK.touch()
    process.wait()
    del landed[f"{first:04d}"]
    cut = {batch: json.loads(layout.batch_file("movies", batch).read_text())["cut"] for batch in landed}
    started = {batch: min(time for time in watch.imports.values() if time > cut[batch] - 0.02) for batch in landed}
    to_start = statistics.median(started[batch] - cut[batch] for batch in landed)
    whole = statistics.median(started[batch] - landed[batch] for batch in landed)
    others = max(ended - jobs - ticks, 0.0)
    print(f"{exposures:>9} {to_start:>12.2f} {whole:>14.2f} {own:>14.3f} {ticks:>10.2f} {others:>11.2f} {memory:>9.0f}", flush=True)


def land(number: int) -> float:
    """A movie comes up whole; when."""
    generator = np.random.default_rng(number)
    write_tiff_movie("raw/next.partial", [generator.poisson(3, (64, 64)).astype(np.uint8) for _ in range(4)])
    os.replace("raw/next.partial", f"raw/z{number}.tif")
    return time.time()


def wait(done: Callable[[], bool], process: subprocess.Popen[bytes], watch: Watch, folder: Path) -> None:
    """Look at the processes until something is there."""
    while not done():
        if process.poll() is not None:
            raise SystemExit(f"Snakemake ended; see {folder}/snakemake.log")
        watch.look(folder)
        time.sleep(0.05)


def main() -> None:
    """One line per length of the past."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exposures", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--movies", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/live"))
    options = parser.parse_args()
    out = options.out.resolve()
    print("exposures cut->start_s complete->start_s snakemake_cpu_s tick_cpu_s other_cpu_s memory_mb")
    for exposures in options.exposures:
        measure(out / str(exposures), exposures, options.movies)


if __name__ == "__main__":
    main()
