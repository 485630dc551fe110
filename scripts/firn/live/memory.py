"""Whether jobs of a session lack memory, from the last words in their logs."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from firn.live import layout
from firn.live.rounds import Rounds, round_name

SHORT = "out of memory: "
TAIL = 4096


def memory_alarm(opened: Mapping[str, Mapping[str, int]], jobs: Mapping[str, Iterable[str]], rounds: Rounds) -> str:
    """What the first job says that died for lack of memory and is not done yet; nothing when there is none.

    opened: try of each open batch by import; jobs: names of the jobs of a batch by import.
    """
    for name, path in [*_of_batches(opened, jobs), *_of_rounds(rounds)]:
        if sentence := _last_words(path):
            return f"{name} {sentence}"
    return ""


def _of_batches(opened: Mapping[str, Mapping[str, int]], jobs: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, Path]]:
    for root, batches in opened.items():
        for batch, number in batches.items():
            for attempt in range(max(number - 1, 1), number + 1):
                yield f"Batch {root}/{batch} is", layout.try_log(root, batch, attempt)
            for job in (job for job in jobs[root] if number <= 1 and layout.failed_job_file(job, batch).exists()):
                yield f"Batch {batch} of {job} is", layout.log_file(job, batch)


def _of_rounds(rounds: Rounds) -> Iterator[tuple[str, Path]]:
    for job, entries in rounds.items():
        for entry in entries[-1:]:
            for attempt in range(entry["try"], 0, -1) if entry["state"] in ("open", "failed") else ():
                yield f"Round {entry['number']} of {job} is", layout.round_log(job, round_name(entry["number"]), attempt)


def _last_words(path: Path) -> str:
    """From where the end of a log tells of a lack of memory to the end of that line."""
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - TAIL, 0))
        text = stream.read().decode("utf-8", "replace")
    _, found, rest = text.rpartition(SHORT)
    return found + rest.partition("\n")[0] if found else ""
