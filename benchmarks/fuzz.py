"""Damage a sound file of every kind that firn reads, read it, and see that no more happens than a value or one sentence.

Run: python benchmarks/fuzz.py --seconds 600 [--only STAR EER] [--atheris]

Each reader runs in a child process whose memory is limited and which a clock kills, so that a crash, a hang or a blow-up is seen and counted,
not suffered. Input number n of a reader is the same in every run; `--first n` goes on where an earlier run ended. Printed per reader: inputs
tried, refused with a sentence, read, faults (anything else), longest time of one input in s of CPU, most memory above the child's own in MB,
each 0 or small; after the table every fault with the number that makes it again. With --atheris, the inputs of text readers are chosen by
libFuzzer for the code they reach (needs `pip install atheris`; its inputs differ from run to run).
"""

import argparse
import logging
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FunctionType

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from formats.fuzz_damage import draw_steps
from formats.fuzz_readers import READERS, Reader, sound_bytes, try_one

LONGEST_S = 10
MEMORY = 2 * 2**30
"""Bytes of address space beyond what the child has when it starts."""


@dataclass
class Tally:
    """What came of one reader's inputs."""

    tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: dict[str, tuple[int, int]] = field(default_factory=dict)
    longest_s: float = 0.0
    memory_mb: float = 0.0

    def fault(self, number: int, what: str) -> None:
        """Count a fault, keeping the first input that made it."""
        count, first = self.faults.get(what, (0, number))
        self.faults[what] = (count + 1, first)
        self.outcomes["faults"] += 1


def run_reader(reader: Reader, first: int, seconds: float) -> Tally:
    """Try inputs from number `first` on for some seconds, in as many children as it takes."""
    tally, end, number = Tally(), time.monotonic() + seconds, first
    context = multiprocessing.get_context("fork")
    while number == first or time.monotonic() < end:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(reader, number, end, theirs))
        child.start()
        theirs.close()
        number = _listen(ours, tally, number)
        child.join()
        if child.exitcode:
            name = signal.Signals(-child.exitcode).name if child.exitcode < 0 else f"exit code {child.exitcode}"
            tally.fault(number, f"hung for {LONGEST_S} s" if name == "SIGALRM" else f"killed the process: {name}")
            number += 1
            tally.tried += 1
    return tally


def _listen(pipe: Connection, tally: Tally, number: int) -> int:
    """Take what the child tells until it ends; the number of the input after the last that it finished."""
    while True:
        try:
            done, what, seconds, memory = pipe.recv()
        except EOFError:
            return number
        number = done + 1
        tally.tried += 1
        tally.longest_s, tally.memory_mb = max(tally.longest_s, seconds), max(tally.memory_mb, memory)
        if what in ("read", "refused"):
            tally.outcomes[what] += 1
        else:
            tally.fault(done, what)


def _work(reader: Reader, number: int, end: float, pipe: Connection) -> None:
    warnings.simplefilter("error")
    logging.disable(logging.CRITICAL)
    own = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY, own + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with tempfile.TemporaryDirectory() as name:
        data = sound_bytes(reader, Path(name))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        while time.monotonic() < end:
            start = time.process_time()
            signal.alarm(LONGEST_S)
            what = _try(reader, Path(name) / reader.file, data, number)
            signal.alarm(0)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            pipe.send((number, what, time.process_time() - start, grown))
            number += 1


def _try(reader: Reader, path: Path, data: bytes, number: int) -> str:
    try:
        return try_one(reader, path, data, draw_steps(random.Random(f"{reader.name}/{number}"), reader.text))
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/firn/" in frame.filename]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "sentence"
        return f"{type(error).__name__} at {where}: {str(error)[:100]}"


def run_guided(readers: list[Reader], seconds: float) -> None:
    """Have libFuzzer choose the bytes of one reader after another, each in a child of its own; it reports a fault itself."""
    import atheris

    for reader in readers:
        child = os.fork()
        if child == 0:
            folder = Path(tempfile.mkdtemp())
            corpus = folder / "corpus"
            corpus.mkdir()
            (corpus / "sound").write_bytes(sound_bytes(reader, folder))
            logging.disable(logging.CRITICAL)
            for function in _own_functions():
                atheris.instrument_func(function)
            options = [
                f"-max_total_time={int(seconds)}",
                f"-timeout={LONGEST_S}",
                "-rss_limit_mb=4096",
                "-verbosity=0",
                "-print_final_stats=1",
            ]
            atheris.Setup([reader.name, *options, str(corpus)], partial(_try_bytes, reader, folder / reader.file))
            atheris.Fuzz()
        print(f"{reader.name}: {'no fault' if os.waitpid(child, 0)[1] == 0 else 'FAULT'}", flush=True)


def _own_functions() -> list[FunctionType]:
    """Those of the readers, whose branches guide the fuzzer."""
    modules = [module for name, module in sys.modules.items() if name.startswith(("firn.formats.", "firn.live.control", "firn.dag."))]
    return [
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, FunctionType) and each.__module__ == module.__name__
    ]


def _try_bytes(reader: Reader, path: Path, data: bytes) -> None:
    try_one(reader, path, data, [])


def main() -> None:
    """Print the table; exit code 1 when there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=32, help="of all readers together")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", nargs="*", default=[], help="readers whose name contains one of these")
    parser.add_argument("--atheris", action="store_true")
    arguments = parser.parse_args()
    chosen = [reader for reader in READERS if not arguments.only or any(part in reader.name for part in arguments.only)]
    if arguments.atheris:
        run_guided([reader for reader in chosen if reader.pack is None], arguments.seconds / len(chosen))
        return
    print(f"{'reader':<26}{'tried':>9}{'refused':>9}{'read':>8}{'faults':>8}{'longest s':>11}{'memory MB':>11}")
    total, tried, faults = Counter[str](), 0, []
    for reader in chosen:
        tally = run_reader(reader, arguments.first, arguments.seconds / len(chosen))
        counts = tally.outcomes
        line = f"{reader.name:<26}{tally.tried:>9}{counts['refused']:>9}{counts['read']:>8}{counts['faults']:>8}"
        print(f"{line}{tally.longest_s:>11.2f}{tally.memory_mb:>11.0f}", flush=True)
        faults += [f"{reader.name}, input {first}, {count} times: {what}" for what, (count, first) in tally.faults.items()]
        total, tried = total + counts, tried + tally.tried
    print(f"{'all':<26}{tried:>9}{total['refused']:>9}{total['read']:>8}{total['faults']:>8}")
    print("\n".join(faults))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
