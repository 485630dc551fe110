"""Make a finished session small, and whole again: images that can be made from the movies are deleted, tables and numbers stay.

Deleted are micrographs, particle images, thumbnails and the like in the batches of a session, never movies, maps, classes, tables or figures.
So much for the class `images`; others are in CLASSES, and are deleted for good. What was deleted is written beside it, in `compacted.json`. To restore is to run the same jobs again on these batches with the seeds they had;
the times of all tables are put back afterwards, so that nothing that was made from them runs again.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from firn.errors import InputError
from firn.live import layout
from firn.runtime.atomic import write_json
from firn.upkeep.sizes import UNFINISHED

CLASSES = {
    "images": "micrographs, particle images and thumbnails of batches, which --restore makes again from the movies",
    "rounds": "rounds of classes and maps made while movies came, of jobs that were made whole since",
    "unfinished": "what jobs that failed or were killed left behind, saved states from which they would have gone on among it",
}
IMAGES = (".mrc", ".mrcs")
THUMBNAILS = "thumbnails"
RECORD = "compacted.json"
TIMES = layout.LIVE / "restore.json"
TABLES = (".star", ".json")
CLOCKED = "firnSeconds"


def compact(folder: Path, dry: bool = False, classes: Sequence[str] = ("images",)) -> dict[str, int]:
    """Delete some of CLASSES; bytes by kind, for images the name of the folder in the batch. With dry, nothing is deleted.

    Raises InputError while the session is not over.
    """
    _check_idle(folder)
    sizes: Counter[str] = Counter()
    if "images" in classes:
        sizes += _compact_images(folder, dry)
    for name, found in (("rounds", _old_rounds), ("unfinished", _unfinished)):
        for path in found(folder) if name in classes else ():
            sizes[name] += sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file() and not file.is_symlink())
            if not dry:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return dict(sizes)


def _compact_images(folder: Path, dry: bool) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for batch in _batches(folder):
        files = list(_images(batch))
        for path in files:
            sizes[path.relative_to(batch).parts[0]] += path.stat().st_size
        if files and not dry:
            known = layout.read_json(batch / RECORD, {"files": []})["files"]
            names = sorted({*known, *(str(path.relative_to(batch)) for path in files)})
            write_json(batch / RECORD, {"files": names})
            for path in files:
                path.unlink()
    return sizes


def _old_rounds(folder: Path) -> list[Path]:
    """Rounds of jobs that have been made whole since."""
    return [path for path in sorted((folder / "results").glob("*/rounds")) if (path.parent / "job.json").exists()]


def _unfinished(folder: Path) -> list[Path]:
    """What jobs that did not come to their end left behind, their saved states among it."""
    found = [path for path in (folder / "results").rglob(".*") if path.name.endswith(UNFINISHED)]
    return sorted(path for path in found if not any(parent in found for parent in path.parents))


def restore(folder: Path, snakemake: Sequence[str]) -> list[str]:
    """Run the jobs of every compacted batch again; tables that came out different from before, which should be none.

    snakemake: the command with profile and config, without a target. Raises InputError when it fails; started again, it goes on.
    """
    _check_idle(folder)
    records = [batch / RECORD for batch in _batches(folder) if (batch / RECORD).exists()]
    if not records:
        return []
    if not (folder / TIMES).exists():
        write_json(folder / TIMES, {str(path.relative_to(folder)): [path.stat().st_mtime_ns, _digest(path)] for path in _tables(folder)})
    targets = [record.with_name("job.json") for record in records]
    for target in targets:
        if not _is_whole(target.parent):
            target.unlink(missing_ok=True)
    names = [str(target.relative_to(folder)) for target in targets]
    command = [*snakemake[:3], *names, *snakemake[3:], "--directory", str(folder)]
    if subprocess.run(command, check=False).returncode or not all(_is_whole(target.parent) for target in targets):
        raise InputError(f"{folder}: not all images could be made again; see the logs, and start again")
    changed = _put_times_back(folder)
    for record in records:
        record.unlink()
    (folder / TIMES).unlink()
    return changed


def _check_idle(folder: Path) -> None:
    if (folder / layout.LIVE / "batches").is_dir() and not (folder / layout.ENDED).exists():
        raise InputError(f"{folder}: the live session has not ended")
    if any((folder / ".snakemake" / "locks").glob("*")):
        raise InputError(f"{folder}: Snakemake is at work there, or was killed; let it finish, or run it with --unlock")


def _batches(folder: Path) -> Iterator[Path]:
    """Folders of the batches of all jobs but imports."""
    for record in sorted((folder / "results").glob("*/batches/*/job.json")) + sorted((folder / "results").glob(f"*/batches/*/{RECORD}")):
        if record.name == RECORD and record.with_name("job.json").exists():
            continue
        if not str(layout.read_json(record, {}).get("type", "")).startswith("import"):
            yield record.parent


def _images(batch: Path) -> Iterator[Path]:
    for path in batch.rglob("*"):
        inside = path.relative_to(batch).parts
        if path.is_file() and not path.is_symlink() and len(inside) > 1 and (path.suffix in IMAGES or inside[0] == THUMBNAILS):
            yield path


def _is_whole(batch: Path) -> bool:
    names = json.loads((batch / RECORD).read_text(encoding="utf-8"))["files"]
    return (batch / "job.json").exists() and all((batch / name).exists() for name in names)


def _tables(folder: Path) -> Iterator[Path]:
    for path in (folder / "results").rglob("*"):
        if path.suffix in TABLES and path.is_file() and path.name != RECORD and not path.is_symlink():
            yield path


def _digest(path: Path) -> str:
    """Of a table but for how long its exposures took; nothing for records of jobs, which tell times and so differ always."""
    if path.suffix != ".star":
        return ""
    from firn.formats.star import read_star  # slow to import

    digest = hashlib.blake2b(digest_size=16)
    for name, table in read_star(path).items():
        kept = [label for label in table.columns if not str(label).startswith(CLOCKED)]
        digest.update(f"{name}\n{table[kept].to_csv(index=False)}".encode())
    return digest.hexdigest()


def _put_times_back(folder: Path) -> list[str]:
    """Give tables and records their former times, but not where a table differs; which these are."""
    before = json.loads((folder / TIMES).read_text(encoding="utf-8"))
    there = {name: folder / name for name in before if (folder / name).exists()}
    changed = [name for name, path in there.items() if _digest(path) != before[name][1]]
    spoilt = {str(Path(name).parent) for name in changed}
    for name, path in there.items():
        if str(Path(name).parent) not in spoilt:
            os.utime(path, ns=(before[name][0], before[name][0]))
    return changed
