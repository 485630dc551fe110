"""Many users at once on one file system: batch sessions through the queues of a Slurm cluster, and a live session beside them.

    python benchmarks/many_users.py [--users 10] [--queues 5] [--price 2.5] [--alone 2] [--out FOLDER]

Every user classifies the same raw particles with a seed of their own, in a run folder of their own; all start at once, share the SSD cache, and
submit to one of the queues in turn, which share as many devices. Meanwhile movies land in the folder of a live session, which runs on this
machine. Some users' sessions and the live one are then run again, each alone: every table, picture and map must be the same to the last byte,
and the cache must hold the particles once. Prints time, CPU time and failed jobs of each session; jobs, waiting, time from the first submission
to the last end, and cost of each queue, whose device is paid for that long. Ends with 1 when anything is wrong. The Slurm cluster is started and
ended here, as root; where none can be, all sessions run on this machine.
"""

import argparse
import csv
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import chdir, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from firn.jobs import simulate_particles
from firn.runtime.entry import open_job
from firn.simulate.write_movie import write_tiff_movie
from workflow.session import COMMAND, ROOT, write_session
from workflow.slurm_cluster import finished, slurm_cluster, why_not

RAW = {"particles": 200, "box_px": 32, "pixel_size": 6.0, "seed": 11}
MOVIES = {"pixel_size": 2.0, "voltage_kv": 300, "cs_mm": 2.7, "dose_per_frame": 1.0, "batch_size": 1}
CONTROL = {"settle_s": 0, "quiet_min": None, "alarms": {"disk_free_gb": 0}}
LANDED, INTERVAL_S = 3, 5.0
COMPARED = (".star", ".mrc", ".mrcs", ".png")
LABELS = slice(224, 1024)
FAILED, SUBMITTED = "Error in rule ", "SLURM jobid"
LOOK_S = 10.0
"""How often Slurm is asked for its jobs, of which it forgets those that ended five minutes ago."""
Jobs = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Spent:
    """What a session took: exit code, seconds, CPU seconds, failed jobs."""

    code: int
    wall: float
    cpu: float
    failed: int


def main() -> None:
    """Run all at once, then some alone, and compare."""
    given = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = given.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    (out / "raw").mkdir(parents=True)
    os.environ |= {"FIRN_CACHE": str(out / "ssd"), "FIRN_CACHE_RESERVE_GB": "0", "OMP_NUM_THREADS": "1"}
    (out / "ssd").mkdir()
    with chdir(out / "raw"), open_job(simulate_particles.Params, RAW, {}, Path("results/sim"), "sim") as job:
        simulate_particles.run(job)
    reason = why_not()
    queues = [] if reason else [f"queue{number + 1}" for number in range(given.queues)]
    print(f"Slurm: {reason or f'{len(queues)} queues, {len(queues)} devices'}", flush=True)
    with nullcontext() if reason else slurm_cluster(out / "slurm", queues, len(queues)):
        users = {f"user{number + 1:02d}": profile(out, queues[number % len(queues)] if queues else "") for number in range(given.users)}
        together, jobs = run(out, "", users, ["live"])
        alone = dict(list(users.items())[: given.alone])
        again = {name: run(out, "alone_", {name: place}, [])[0][name] for name, place in alone.items()} | run(out, "alone_", {}, ["live"])[
            0
        ]
    tell_sessions(together, again, users)
    tell_queues(jobs, queues, given.price)
    wrong = faults(out, together, again)
    print("\n".join(wrong) or "every session alone gives the same files; nothing failed")
    sys.exit(1 if wrong else 0)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--queues", type=int, default=5)
    parser.add_argument("--price", type=float, default=2.5, help="of a device for an hour")
    parser.add_argument("--alone", type=int, default=2, help="users whose sessions are run again alone")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/many_users"))
    return parser.parse_args()


def profile(out: Path, queue: str) -> Path:
    """Folder of a profile that submits all jobs to a queue; that of a workstation where there is none."""
    kept = yaml.safe_load((ROOT / "profiles" / ("slurm" if queue else "local") / "config.yaml").read_text())
    kept["set-threads"] = {"classify_2d": 1}
    if queue:
        kept["default-resources"]["slurm_partition"] = queue
        kept["set-resources"] = {rule: wanted | {"slurm_partition": queue} for rule, wanted in kept["set-resources"].items()}
        kept["slurm-init-seconds-before-status-checks"] = 2
    folder = out / "profiles" / (queue or "local")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(kept))
    return folder


def run(out: Path, prefix: str, users: dict[str, Path], live: Sequence[str]) -> tuple[dict[str, Spent], Jobs]:
    """Start all these sessions and wait for them; what each took, and the jobs of Slurm."""
    spent: dict[str, Spent] = {}
    starts: dict[str, Callable[[], subprocess.Popen[bytes]]] = {
        name: lambda name=name, place=place: start_batch(out / f"{prefix}{name}", int(name[-2:]), place) for name, place in users.items()
    } | {name: lambda name=name: start_live(out / f"{prefix}{name}") for name in live}
    threads = [threading.Thread(target=take, args=(spent, name, out / f"{prefix}{name}", start)) for name, start in starts.items()]
    for thread in threads:
        thread.start()
    jobs: Jobs = {}
    for thread in threads:
        while thread.is_alive():
            thread.join(LOOK_S)
            jobs |= slurm_jobs(out / "slurm")
    return spent, jobs


def start_batch(folder: Path, seed: int, place: Path) -> subprocess.Popen[bytes]:
    """A user's session: the particles of all, classified with a seed of the user's own."""
    jobs = {
        "particles": {"type": "import_particles", "file": "../raw/results/sim/particles.star"},
        "classes": {"type": "classify_2d", "particles": "particles", "classes": 2, "iterations": 3},
    }
    session = write_session(folder, jobs, seed)
    return subprocess.Popen(
        [*COMMAND, "--profile", str(place), "--directory", str(folder), "--configfile", str(session)],
        stdout=(folder / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )


def start_live(folder: Path) -> subprocess.Popen[bytes]:
    """A session on movies that land one by one."""
    jobs = {
        "movies": {"type": "import_movies", "files": "raw/*.tif", **MOVIES},
        "motion": {"type": "full_frame_motion", "exposures": "movies"},
    }
    session = write_session(folder, jobs)
    for name in ("raw", "live"):
        (folder / name).mkdir()
    (folder / "live/control.yaml").write_text(yaml.safe_dump(CONTROL))
    threading.Thread(target=land, args=(folder,)).start()
    return subprocess.Popen(
        [sys.executable, ROOT / "scripts/live.py", folder, "--profile", ROOT / "profiles/local", "--configfile", session],
        cwd=folder,
        stdout=(folder / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )


def land(folder: Path) -> None:
    """Movies come up whole, one after the other; then the session may end."""
    for number in range(LANDED):
        time.sleep(INTERVAL_S)
        frames = np.random.default_rng(number).poisson(3, (4, 128, 128)).astype(np.uint8)
        write_tiff_movie(folder / "raw/next.partial", list(frames))
        os.replace(folder / "raw/next.partial", folder / f"raw/{number}.tif")
    (folder / "live/end").touch()


def take(spent: dict[str, Spent], name: str, folder: Path, start: Callable[[], subprocess.Popen[bytes]]) -> None:
    """Start a session and wait for its end; its CPU time is that of its processes here, the report's among them, and of its jobs in Slurm."""
    began = time.monotonic()
    process = start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    log = (folder / "log").read_text(errors="replace")
    elsewhere = sum(cpu_of(record) for record in folder.glob("logs/*.tsv") if record.stem != "report") if SUBMITTED in log else 0.0
    cpu = usage.ru_utime + usage.ru_stime + elsewhere
    spent[name] = Spent(process.returncode, time.monotonic() - began, cpu, log.count(FAILED))


def cpu_of(record: Path) -> float:
    """CPU seconds of a job as Snakemake recorded them."""
    with record.open() as stream:
        return sum(float(row["cpu_time"]) for row in csv.DictReader(stream, delimiter="\t") if row["cpu_time"] not in ("NA", "-"))


def slurm_jobs(cluster: Path) -> Jobs:
    """All jobs that Slurm remembers, by number."""
    rows = [dict(field.split("=", 1) for field in job.split() if "=" in field) for job in finished()] if cluster.exists() else []
    return {row["JobId"]: row for row in rows if "JobId" in row}


def tell_sessions(together: dict[str, Spent], again: dict[str, Spent], users: dict[str, Path]) -> None:
    """One line per session."""
    print(f"{'session':>8} {'queue':>8} {'wall_s':>7} {'cpu_s':>6} {'failed':>6} {'code':>4} {'alone_s':>7}")
    for name, took in sorted(together.items()):
        queue, alone = users[name].name if name in users else "-", f"{again[name].wall:.0f}" if name in again else ""
        print(f"{name:>8} {queue:>8} {took.wall:>7.0f} {took.cpu:>6.1f} {took.failed:>6} {took.code:>4} {alone:>7}")


def tell_queues(jobs: Jobs, queues: Sequence[str], price: float) -> None:
    """One line per queue."""
    if queues:
        print(f"{'queue':>8} {'jobs':>5} {'waited_s':>8} {'ran_s':>6} {'device_s':>8} {'total_s':>7} {'cost':>7}")
    for queue in queues:
        own = [job for job in jobs.values() if job.get("Partition") == queue]
        times = [[datetime.fromisoformat(job[name]).timestamp() for name in ("SubmitTime", "StartTime", "EndTime")] for job in own]
        waited, ran = (sum(each[place + 1] - each[place] for each in times) for place in (0, 1))
        device = sum(each[2] - each[1] for each, job in zip(times, own, strict=True) if "gpu" in job.get("TresPerJob", ""))
        total = max(each[2] for each in times) - min(each[0] for each in times) if times else 0.0
        print(f"{queue:>8} {len(own):>5} {waited:>8.0f} {ran:>6.0f} {device:>8.0f} {total:>7.0f} {price * total / 3600:>7.3f}")


def faults(out: Path, together: dict[str, Spent], again: dict[str, Spent]) -> list[str]:
    """Sessions that failed, files that differ from those of a session alone, users with the same classes, and particles cached twice."""
    wrong = [f"{name}: exit code {took.code}, {took.failed} failed jobs" for name, took in together.items() if took.code or took.failed]
    for name in again:
        here, alone = digests(out / name), digests(out / f"alone_{name}")
        wrong += [
            f"{name}: {path} differs from that of the session alone" for path in sorted(here | alone) if here.get(path) != alone.get(path)
        ]
        wrong += [] if here else [f"{name}: left nothing"]
    classes = [digests(folder).get("classes/classes.mrcs") for folder in out.glob("user*")]
    wrong += [f"{len(set(classes))} different classes of {len(classes)} users"] if len(set(classes)) < len(classes) else []
    stacks = [path for path in (out / "ssd").rglob("*") if path.is_file() and path.stat().st_size >= RAW["particles"] * RAW["box_px"] ** 2]
    return wrong + ([] if len(stacks) == 1 else [f"the cache holds {len(stacks)} copies of one stack"])


def digests(folder: Path) -> dict[str, str]:
    """Of every table, image and map of a session, by its path; without the labels of MRC headers, which tell the time."""
    results, found = folder / "results", {}
    for path in (path for path in results.rglob("*") if path.suffix in COMPARED and path.is_file()):
        content = bytearray(path.read_bytes())
        if path.suffix in (".mrc", ".mrcs"):
            content[LABELS] = b""
        found[str(path.relative_to(results))] = hashlib.sha256(content).hexdigest()
    return found


if __name__ == "__main__":
    main()
