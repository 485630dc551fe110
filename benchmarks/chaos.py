"""A live session of simulated movies in which processes are killed at random: what is lost, and what it costs.

    python benchmarks/chaos.py [--kills 20] [--faults 6] [--movies 40] [--seed 1] [--hold-round 0] [--out FOLDER]

Movies of particles land one by one, a few of them cut short. At random moments SIGKILL strikes a job (ticks and rounds of classes among them),
Snakemake with all that it runs, or the supervisor, which is started again as docs/live.md says; or a fault of the storage comes for some
seconds: the folder of the movies or that of the results is away, or, as root, the run folder's disk is full, which is a small one then. In the end every movie must have one verdict,
accepted, rejected or failed with a reason, in the session's tables and in those of the whole graph; no file may be cut short or left over; and
the last round of classes must be made of all particles that are accepted. Prints the kills by kind, the verdicts, and all that is wrong;
ends with 1 when something is. With --hold-round, the first round of classes is stopped for so many seconds before the kills, as if it took so
long, and the batches that are finished meanwhile are counted: the lanes of a session do not wait for each other.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from firn.jobs import simulate_movies
from firn.runtime.entry import open_job
from workflow.chaos import KINDS, LiveSession, faults, fill, verdicts

SIMULATED = {
    "dirty": 0, "size_px": 256, "frames": 6, "pixel_size": 4.0, "dose_per_frame": 5.0, "particles_per_movie": 30, "gain_sd": 0.0,
    "dead_pixels": 0, "hot_pixels": 0,
}  # fmt: skip
JOBS: dict[str, dict[str, Any]] = {
    "movies": {
        "type": "import_movies", "files": "raw/*.tif", "pixel_size": 4.0, "voltage_kv": 300, "cs_mm": 2.7, "dose_per_frame": 5.0,
        "batch_size": 3,
    },
    "pre": {"type": "preprocess", "exposures": "movies", "blob_min_diameter": 100, "blob_max_diameter": 140, "extract_box_px": 48},
    "class2d": {"type": "classify_2d", "particles": "pre", "classes": 3, "iterations": 6, "max_resolution": 16.0, "particle_diameter": 150.0},
    "keep": {"type": "select_2d", "particles": "class2d", "templates": "class2d"},
}  # fmt: skip
FOLDERS = ("raw", "results")
MOUNT = ("mount", "-t", "tmpfs")
LIMIT_S = 1800.0
FIRST = 6
"""Movies after which the first round is due."""


def main() -> None:
    """Simulate, run, kill, check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("kills", 20), ("faults", 6), ("movies", 40), ("cut-short", 2), ("seed", 1), ("disk-mb", 400)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--hold-round", type=float, default=0.0, help="seconds for which the first round is stopped")
    parser.add_argument("--interval", type=float, default=6.0, help="seconds between movies")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/chaos"))
    given = parser.parse_args()
    out = given.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    ready = simulate(out / "ready", given)
    (out / "disk").mkdir()
    small = (
        os.getuid() == 0
        and given.faults
        and not subprocess.run([*MOUNT, f"-osize={given.disk_mb}m", "firn-chaos", out / "disk"]).returncode
    )
    kinds = [*("away " + name for name in FOLDERS), *(["full disk"] if small else [])]
    try:
        wrong = survive(out / "disk/run", ready, kinds, given)
    finally:
        if small:
            subprocess.run(["umount", "--lazy", out / "disk"], check=True)
    print("\n".join(wrong) or "nothing is lost")
    sys.exit(1 if wrong else 0)


def survive(run: Path, ready: list[Path], kinds: list[str], given: argparse.Namespace) -> list[str]:
    """Run a session in which things happen, and print what came of it; what is wrong in the end."""
    run.mkdir()
    chance, struck, started = random.Random(given.seed), Counter[str](), time.monotonic()
    session = LiveSession(run, JOBS, {"alarms": {"disk_free_gb": 0.02}})
    try:
        if given.hold_round:
            hold_round(session, ready, given)
        for kind in strike(session, ready, chance, kinds, given):
            struck[kind] += 1
        collected = time.monotonic() - started
        code = session.end(LIMIT_S)
    finally:
        session.stop()
    print(f"movies landed in {collected:.0f} s, all done after {time.monotonic() - started:.0f} s, exit code {code}")
    print("struck: " + ", ".join(f"{count} {kind}" for kind, count in sorted(struck.items())))
    found = verdicts(session.folder)
    print(
        "verdicts: " + ", ".join(f"{count} {word}" for word, count in Counter(word for words in found.values() for word in words).items())
    )
    return faults(session.folder, "movies", "pre") + ([] if code == 0 else [f"exit code {code}"])


def simulate(folder: Path, given: argparse.Namespace) -> list[Path]:
    """Movies of particles, some of them cut short, in an order of chance."""
    folder.mkdir(parents=True)
    settings = SIMULATED | {"movies": given.movies, "truncated": given.cut_short, "seed": given.seed}
    with chdir(folder), open_job(simulate_movies.Params, settings, {}, Path("results/sim"), "sim") as job:
        simulate_movies.run(job)
    movies = sorted((folder / "results/sim/movies").glob("*.tif"))
    random.Random(given.seed).shuffle(movies)
    return movies


def hold_round(session: LiveSession, ready: list[Path], given: argparse.Namespace) -> None:
    """Stop the first round for a while, and print how many batches are finished while movies go on landing."""
    for movie in ready[-FIRST:]:
        land(session, movie)
    del ready[-FIRST:]
    session.wait_for(lambda: "stream_round.py" in session.jobs().values(), LIMIT_S)
    (process,) = [process for process, script in session.jobs().items() if script == "stream_round.py"]
    os.kill(process, signal.SIGSTOP)
    before, began = finished_batches(session), time.monotonic()
    while (now := time.monotonic()) < began + given.hold_round:
        if len(ready) > len(JOBS) and now > began + 2 * given.interval * (session.landed - FIRST):
            land(session, ready.pop())
        time.sleep(0.1)
    done, landed = finished_batches(session) - before, session.landed - FIRST
    os.kill(process, signal.SIGCONT)
    print(f"a round took {given.hold_round:.0f} s; meanwhile {landed} movies landed and {done} batches were finished", flush=True)
    if landed and not done:
        sys.exit("no batch was finished during a round")


def finished_batches(session: LiveSession) -> int:
    """Batches whose outcome is known."""
    return len(list((session.folder / "live/outcomes").rglob("*.json")))


def land(session: LiveSession, movie: Path) -> None:
    """A whole movie appears."""
    shutil.copy(movie, session.folder / "part")
    os.replace(session.folder / "part", session.folder / "raw" / movie.name)
    session.landed += 1


def strike(session: LiveSession, ready: list[Path], chance: random.Random, kinds: list[str], given: argparse.Namespace) -> Iterator[str]:
    """Let movies land, and kill processes and bring faults meanwhile, until all is done; each thing that was done."""
    planned = ["kill"] * given.kills + ["fault"] * given.faults
    chance.shuffle(planned)
    pace = given.interval * len(ready) / max(len(planned), 1)
    next_movie, next_blow, waiting = time.monotonic(), time.monotonic() + 15, list(ready)
    while waiting or planned:
        now = time.monotonic()
        if waiting and now >= next_movie:
            land(session, waiting.pop())
            next_movie = now + given.interval
        if planned and now >= next_blow:
            what = session.kill(chance.choice(KINDS), chance) if planned[-1] == "kill" else bring(session, chance.choice(kinds), chance)
            if what:
                planned.pop()
                next_blow = now + chance.uniform(0.5, 1.5) * pace
                print(f"{now:.0f} {what}", flush=True)
                yield what
        if session.process.poll() is not None:
            sys.exit(f"the supervisor ended with {session.process.returncode}: {session.text()}")
        time.sleep(0.1)


def bring(session: LiveSession, kind: str, chance: random.Random) -> str:
    """Bring a fault of the storage, and mend it after some seconds; its kind."""
    seconds = chance.uniform(3, 20)
    if kind == "full disk":
        filler = session.folder.parent / "filler"
        fill(filler)
        time.sleep(seconds)
        filler.unlink()
        return kind
    folder = session.folder / kind.removeprefix("away ")
    if not take_away(folder):
        return ""
    time.sleep(seconds)
    bring_back(folder)
    return kind


def take_away(folder: Path) -> bool:
    """A folder is away, as when its disk is not mounted; whether it was there."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.kept"))
        return True
    return False


def bring_back(folder: Path) -> None:
    """A folder that was taken away is there again; what came up in its place is put aside."""
    for number in range(100):
        with suppress(OSError):
            if folder.exists():
                folder.rename(folder.parents[1] / f"instead.{time.time_ns()}.{number}")
            folder.with_name(f"{folder.name}.kept").rename(folder)
            return
    raise TimeoutError(f"{folder} comes up again and again")


if __name__ == "__main__":
    main()
