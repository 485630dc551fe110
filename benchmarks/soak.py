"""A long live session under faults of every kind at once: thousands of tiny movies, damaged ones among them, while processes are killed.

    nice python benchmarks/soak.py [--movies 2000] [--kills 6] [--storage 3] [--share 0.01] [--per-second 4] [--seed 1] [--out FOLDER]

Of every fault in soak_movies.KINDS a share of the movies has one. Meanwhile jobs, Snakemake with all that it runs, and the supervisor are killed;
the folder of the movies or that of the results is away for a while; and, as root, the run folder's disk is full for a while. In the end every
movie must have the one verdict that its fault asks for, in the session's tables and in those of the whole graph; no file is cut short
or left over. Prints verdicts by fault, what struck, memory and open files of supervisor and Snakemake as movies come, and all that is
wrong; ends with 1 when something is. As root, what is run is denied to read what its files' modes forbid.
"""

import argparse
import ctypes
import heapq
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from chaos import MOUNT, bring_back, take_away
from soak_movies import KEPT, KINDS, NOTHING, Kind, Step

from firn.formats.ids import exposure_id
from firn.formats.tables import read_table
from workflow.chaos import KINDS as KILLS
from workflow.chaos import LiveSession, fill, unsound, verdicts

JOBS: dict[str, dict[str, Any]] = {
    "movies": {
        "type": "import_movies", "files": "../../raw/**/*.tif", "pixel_size": 4.0, "voltage_kv": 300, "cs_mm": 2.7, "dose_per_frame": 5.0,
        "batch_size": 200,
    },
    "motion": {"type": "full_frame_motion", "exposures": "movies"},
}  # fmt: skip
CONTROL = {"settle_s": 0.5, "give_up_s": 20, "max_wait_s": 30, "open_batches": 3, "alarms": {"disk_free_gb": 0.02}}
SOUND_FIRST = 60
"""Movies before the first fault, from which the session learns what is usual."""
PER_FOLDER = 1000
LAST_S, SAMPLE_S = 60.0, 5.0
DROP_CAPABILITY, MAY_READ_ALL = 24, (1, 2)
"""PR_CAPBSET_DROP, and the two capabilities by which root reads what modes forbid (prctl(2), capabilities(7))."""
Event = tuple[float, int, Callable[[], None]]


@dataclass
class Soak:
    """One run: what is to happen when, the kind of each movie, what struck, and the samples of memory."""

    session: LiveSession
    chance: random.Random
    raw: Path
    began: float = field(default_factory=time.monotonic)
    events: list[Event] = field(default_factory=list)
    order: Any = field(default_factory=itertools.count)
    movies: dict[str, str] = field(default_factory=dict)
    struck: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        """Let something happen so many seconds after the start."""
        heapq.heappush(self.events, (seconds, next(self.order), what))

    def play(self) -> None:
        """Let all happen."""
        while self.events:
            now = time.monotonic() - self.began
            while self.events and self.events[0][0] <= now:
                heapq.heappop(self.events)[2]()
            if self.session.process.poll() is not None:
                sys.exit(f"the supervisor ended with {self.session.process.returncode}: {self.session.text()}")
            time.sleep(0.05)

    def plan_movies(self, count: int, share: float, per_second: float) -> None:
        """Movies come up one after the other, of every fault a share."""
        faulty = [name for name in KINDS if name != "sound"]
        for number in range(count):
            draw = int(self.chance.random() / share) if number >= SOUND_FIRST else len(faulty)
            name = faulty[draw] if draw < len(faulty) else "sound"
            path = self.raw / f"{number // PER_FOLDER:02d}" / KINDS[name].name.format(number=number)
            self.movies[str(path)] = name
            self.at(number / per_second, lambda path=path, steps=KINDS[name].steps: self.land(path, list(steps)))

    def land(self, path: Path, steps: list[Step]) -> None:
        """The first of the steps of a movie, the others after it; all of them later while the folder is away."""
        now = time.monotonic() - self.began
        if not self.raw.exists():
            return self.at(now + 1, lambda: self.land(path, steps))
        path.parent.mkdir(exist_ok=True)
        (after, step), *others = steps
        step(path, self.chance)
        if others:
            self.at(now + others[0][0] - after, lambda: self.land(path, others))
        return None

    def plan_blows(self, kills: int, storage: list[str], seconds: float) -> None:
        """Kills and faults of the storage at random times, those of the storage one after the other."""
        for _ in range(kills):
            self.at(self.chance.uniform(15, seconds), lambda: self.kill(self.chance.choice(KILLS)))
        room = (seconds - 15) / max(len(storage), 1)
        for number, kind in enumerate(storage):
            start = 15 + number * room + self.chance.uniform(0, room / 3)
            begin, end = self.storage_fault(kind)
            self.at(start, begin)
            self.at(start + self.chance.uniform(5, min(25, room / 2)), end)

    def kill(self, kind: str) -> None:
        """Kill something; a job only when one runs."""
        self.struck[self.session.kill(kind, self.chance) or f"{kind}: none was there"] += 1

    def storage_fault(self, kind: str) -> tuple[Callable[[], None], Callable[[], None]]:
        """How a fault of the storage begins and ends."""
        filler, results = self.session.folder.parent / "filler", self.session.folder / "results"
        begin, end = {
            "full disk": (lambda: fill(filler), filler.unlink),
            "away raw": (lambda: take_away(self.raw), lambda: bring_back(self.raw)),
            "away results": (
                lambda: take_away(results),
                lambda: bring_back(results) if results.with_name("results.kept").exists() else None,
            ),
        }[kind]

        def noted() -> None:
            self.struck[kind] += 1
            begin()

        return noted, end

    def finish(self) -> int:
        """No more movies come; the exit code."""
        (self.session.folder / "live/end").touch()
        while self.session.process.poll() is None:
            self.sample()
            time.sleep(SAMPLE_S)
        return self.session.process.returncode

    def sample(self) -> None:
        """Note memory and open files of supervisor and Snakemake."""
        found = {"supervisor": measure(self.session.process.pid)}
        if below := children(self.session.process.pid):
            found["snakemake"] = measure(below[0])
        values = {f"{name} {what}": value for name, held in found.items() for what, value in held.items()}
        self.samples.append((self.session.told().get("counters", {}).get("ready", 0), values))


def measure(process: int) -> dict[str, float]:
    """MB in memory and open files of a process; nothing when it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        held = next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
        return {"MB": held, "files": len(os.listdir(f"/proc/{process}/fd"))}
    except (OSError, StopIteration):
        return {}


def children(process: int) -> list[int]:
    """Processes that a process started and that live."""
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def wrong_verdicts(soak: Soak) -> list[str]:
    """Movies with no verdict, several, or another than their kind's; prints what came of each kind."""
    folder, wrong, table = soak.session.folder, [], Counter[tuple[str, str]]()
    expected = {os.path.relpath(path, folder): name for path, name in soak.movies.items()}
    for path, name in list(expected.items()):
        if name == "same name twice":
            expected[os.path.join(os.path.dirname(path), "again", os.path.basename(path))] = name
    told, codes = verdicts(folder), reasons(folder)
    for path, name in expected.items():
        words = [codes.get(path, "failed without a code") if word == "failed" else KEPT for word in told.pop(path, [])]
        verdict = words[0] if len(words) == 1 else (NOTHING if not words else f"{len(words)} verdicts")
        table[name, verdict] += 1
        if verdict not in KINDS[name].expected:
            wrong.append(f"{path} ({name}): {verdict}")
    for (name, verdict), count in sorted(table.items()):
        print(f"{name:30} {verdict:14} {count:6}")
    return wrong + [f"{path}: is no movie, but has {words}" for path, words in told.items()]


def reasons(folder: Path) -> dict[str, str]:
    """Code of each movie that failed; one without a sentence is left out."""
    found: dict[str, str] = {}
    for path in (folder / "live/refused").rglob("*.json"):
        record = json.loads(path.read_text())
        found[record["path"]] = record["code"] if record["reason"] else "no reason"
    for path in (folder / "live/outcomes").rglob("*.json"):
        found |= {each["movie"]: each["code"] for each in json.loads(path.read_text()) if each["code"] and each["reason"]}
    return found


def wrong_tables(folder: Path) -> list[str]:
    """Movies of which the tables of the whole graph tell another thing than the session."""
    told = {exposure_id(path): words[0] for path, words in verdicts(folder).items() if words}
    kept = Counter(read_table(folder / "results/motion/exposures.star", "exposures")["exposure_id"])
    tables = [folder / "results" / job / "failed.star" for job in JOBS]
    failed = Counter(name for path in tables if path.exists() for name in set(read_table(path, "failed")["exposure_id"]))
    return [
        f"{name}: {word}, but {kept[name]} times in the table of exposures and {failed[name]} in failed.star"
        for name, word in told.items()
        if (kept[name], failed[name] > 0) != ((0, True) if word == "failed" else (1, False))
    ]


def print_samples(samples: list[tuple[int, dict[str, float]]]) -> None:
    """Memory and open files at ten times."""
    for done, values in samples[:: max(len(samples) // 10, 1)]:
        print(f"after {done:6} exposures: " + ", ".join(f"{name} {value:.0f}" for name, value in values.items()))


def deny_all_reading() -> bool:
    """Let modes of files bind what this process starts, root's too; whether they do."""
    if os.getuid():
        return True
    return all(ctypes.CDLL(None).prctl(DROP_CAPABILITY, capability, 0, 0, 0) == 0 for capability in MAY_READ_ALL)


def run(disk: Path, raw: Path, storage: list[str], given: argparse.Namespace) -> list[str]:
    """A session from its first movie to the end of the whole graph; what is wrong."""
    disk.mkdir(exist_ok=True)
    raw.mkdir()
    session = LiveSession(disk / "run", JOBS, CONTROL, log=disk.with_name("log"))
    soak, seconds = Soak(session, random.Random(given.seed), raw), given.movies / given.per_second
    soak.plan_movies(given.movies, given.share, given.per_second)
    soak.plan_blows(given.kills, storage, seconds)
    for number in range(int((seconds + LAST_S) / SAMPLE_S)):
        soak.at(number * SAMPLE_S, soak.sample)
    try:
        soak.play()
        landed = time.monotonic() - soak.began
        code = soak.finish()
    finally:
        session.stop()
    print(f"{len(soak.movies)} movies landed in {landed:.0f} s; all done after {time.monotonic() - soak.began:.0f} s, exit code {code}")
    print("struck: " + ", ".join(f"{count} {kind}" for kind, count in sorted(soak.struck.items())))
    print_samples(soak.samples)
    wrong = wrong_verdicts(soak) + wrong_tables(session.folder) + unsound(session.folder)
    canary = [f"{path}: a name was run" for path in (disk / "run").rglob("canary")]
    return wrong + canary + ([] if code == 0 else [f"exit code {code}"])


def main() -> None:
    """Run, check, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("movies", 2000), ("kills", 6), ("storage", 3), ("seed", 1), ("disk-mb", 1500)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--share", type=float, default=0.01, help="share of the movies that has one fault")
    parser.add_argument("--per-second", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/soak"))
    given = parser.parse_args()
    out = given.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    (out / "disk").mkdir(parents=True)
    small = os.getuid() == 0 and not subprocess.run([*MOUNT, f"-osize={given.disk_mb}m", "firn-soak", out / "disk"]).returncode
    if not deny_all_reading():
        KINDS["may not be read"] = Kind((KEPT,), KINDS["may not be read"].steps)
    kinds = ["away raw", "away results", *(["full disk"] if small else [])]
    try:
        wrong = run(out / "disk", out / "raw", [kinds[number % len(kinds)] for number in range(given.storage)], given)
    finally:
        if small:
            subprocess.run(["umount", "--lazy", out / "disk"], check=True)
    print("\n".join(wrong) or "nothing is lost")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
