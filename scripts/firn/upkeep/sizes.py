"""What takes how much room in a run folder, by job and by kind. Links are not followed: what lies elsewhere is not the run's."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNFINISHED = (".partial", ".state", ".tmp")
"""Ends of hidden names that stand for work that did not come to its end."""
FOLDERS = {
    "micrographs": "micrographs",
    "particles": "particles",
    "thumbnails": "figures",
    "figures": "figures",
    "rounds": "rounds",
    "motion": "tables",
}
SUFFIXES = {
    ".mrcs": "stacks", ".mrc": "maps", ".png": "figures", ".html": "reports", ".pdf": "reports", ".star": "tables", ".csv": "tables",
    ".json": "tables", ".xml": "tables",
    ".tif": "movies", ".tiff": "movies", ".eer": "movies",
}  # fmt: skip
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True)
class Share:
    """Bytes and files of one kind that one job made; what belongs to no job is told by its folder, such as logs."""

    job: str
    kind: str
    bytes: int
    files: int


def measure(run: Path) -> list[Share]:
    """Shares of everything in a run folder, the largest first."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for path, size in _files(run):
        key = _place(path.relative_to(run))
        size_before, count = found.get(key, (0, 0))
        found[key] = size_before + size, count + 1
    shares = [Share(job, kind, size, count) for (job, kind), (size, count) in found.items()]
    return sorted(shares, key=lambda share: (-share.bytes, share.job, share.kind))


def totals(shares: list[Share], by: str) -> dict[str, int]:
    """Bytes by `job` or by `kind`, the largest first."""
    sums: dict[str, int] = {}
    for share in shares:
        name = getattr(share, by)
        sums[name] = sums.get(name, 0) + share.bytes
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def spoken_bytes(size: float) -> str:
    """`512 B`, `1.5 kB`, `2.0 TB`; thousands, as disks are sold."""
    power = 0
    while size >= 1000 and power < len(UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.0f} {UNITS[power]}" if power == 0 else f"{size:.1f} {UNITS[power]}"


def size_table(shares: list[Share]) -> str:
    """Lines of text: each job with its kinds, then the sums by kind."""
    lines = []
    for job, size in totals(shares, "job").items():
        kinds = ", ".join(f"{share.kind} {spoken_bytes(share.bytes)}" for share in shares if share.job == job)
        lines.append(f"{spoken_bytes(size):>10}  {job:<20}  {kinds}")
    lines.append("")
    lines += [f"{spoken_bytes(size):>10}  {kind}" for kind, size in totals(shares, "kind").items()]
    return "\n".join([*lines, f"{spoken_bytes(sum(share.bytes for share in shares)):>10}  in all"])


def _files(run: Path) -> Iterator[tuple[Path, int]]:
    """Plain files and their bytes; those that vanish meanwhile are passed over."""
    for folder, _, names in os.walk(run):
        for name in names:
            path = Path(folder) / name
            try:
                if not path.is_symlink():
                    yield path, path.stat().st_size
            except FileNotFoundError:
                continue


def _place(path: Path) -> tuple[str, str]:
    """(job, kind) of a path in the run folder."""
    parts = path.parts
    unfinished = next((part for part in parts if part.startswith(".") and part.endswith(UNFINISHED)), None)
    if parts[0] != "results" or len(parts) == 1:
        return f"({parts[0]})" if len(parts) > 1 else "(files)", "unfinished" if unfinished else _kind(parts[1:])
    if len(parts) == 2:
        return "(results)", "unfinished" if unfinished else _kind(parts[1:])
    job = parts[1] if not unfinished or unfinished != parts[1] else parts[1].strip(".").rpartition(".")[0]
    return job, "unfinished" if unfinished else _kind(parts[2:])


def _kind(parts: tuple[str, ...]) -> str:
    named = next((FOLDERS[part] for part in parts[:-1] if part in FOLDERS), None)
    return named or SUFFIXES.get(Path(parts[-1]).suffix if parts else "", "other")
