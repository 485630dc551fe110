"""Raw data that moved: links and tables of a run folder that still name the old place are told the new one.

Convention: what is named by a link within the run folder needs the link alone; tables that name absolute paths are rewritten, text only, and
keep their times, so that nothing runs again. Ids of exposures stay as they are, which is why importing again from the new place is no way.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from firn.errors import InputError

TABLES = (".star", ".csv")


@dataclass(frozen=True)
class Move:
    """What was, or would be, changed: links and tables; and what is still not there after it."""

    links: tuple[str, ...]
    tables: tuple[str, ...]
    missing: tuple[str, ...]


def broken_links(run: Path) -> list[Path]:
    """Links below the run folder that lead nowhere."""
    return [path for path in _links(run) if not path.exists()]


def move_raw(run: Path, old: Path, new: Path, dry: bool = False) -> Move:
    """Tell everything that names a file below `old` that it is below `new` now. With dry, nothing is changed.

    Raises InputError when new is no folder, or when nothing names old.
    """
    before, after = os.path.abspath(old), os.path.abspath(new)
    if not Path(after).is_dir():
        raise InputError(f"{new}: is no folder, so nothing can have moved there")
    links = [(path, target) for path in _links(run) if (target := _moved(_target(path), before, after)) is not None]
    tables = [(path, text) for path in _tables(run) if (text := _told_anew(path, before, after)) is not None]
    if not links and not tables:
        raise InputError(f"{run}: no link and no table names a file below {before}")
    missing = sorted({target for _, target in links if not Path(target).exists()})
    for path, target in () if dry else links:
        _relink(path, target)
    for path, text in () if dry else tables:
        _rewrite(path, text)
    return Move(tuple(str(path) for path, _ in links), tuple(str(path) for path, _ in tables), tuple(missing))


def _links(run: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(run):
        yield from (Path(folder) / name for name in sorted([*folders, *names]) if (Path(folder) / name).is_symlink())


def _target(link: Path) -> str:
    return os.path.abspath(link.parent / os.readlink(link))


def _tables(run: Path) -> Iterator[Path]:
    """Tables, and the lists of files that a live session works on."""
    for path in sorted([*(run / "results").rglob("*"), *(run / "live").rglob("*")]):
        listed = path.suffix == ".json" and path.is_relative_to(run / "live")
        if (path.suffix in TABLES or listed) and path.is_file() and not path.is_symlink():
            yield path


def _moved(path: str, old: str, new: str) -> str | None:
    return new + path[len(old) :] if path == old or path.startswith(f"{old}/") else None


def _told_anew(path: Path, old: str, new: str) -> str | None:
    """The text with the new place, None where it does not name the old one."""
    text = path.read_text(encoding="utf-8")
    told = text.replace(f"{old}/", f"{new}/")
    return told if told != text else None


def _relink(path: Path, target: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    partial.symlink_to(target)
    os.replace(partial, path)


def _rewrite(path: Path, text: str) -> None:
    times = path.stat()
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    partial.write_text(text, encoding="utf-8")
    os.utime(partial, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(partial, path)
