"""A run folder as one file, and back: links stay links, times stay as they are, so that nothing runs again wherever it is unpacked.

Convention: a tar file, packed by the end of its name (.tar, .tar.gz, .tar.xz). Its first member, MANIFEST, lists every file with its bytes and
checksum (BLAKE2b, 16 bytes); packing and unpacking both check against it. Locks of Snakemake and half-done work do not travel.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from firn.errors import InputError
from firn.upkeep.sizes import UNFINISHED

MANIFEST = "firn_archive.json"
LEFT_OUT = (".snakemake/locks", ".snakemake/shadow", ".snakemake/conda", ".snakemake/incomplete", ".snakemake/log")
MODES: dict[str, Literal["w:", "w:gz", "w:xz"]] = {".tar": "w:", ".gz": "w:gz", ".xz": "w:xz"}
CHUNK = 2**20


def archived_names(run: Path) -> list[Path]:
    """Files, links and empty folders of a run folder that an archive holds, relative to it."""
    return sorted(path.relative_to(run) for path in _files(run))


def pack(run: Path, destination: Path) -> dict[str, int]:
    """Write the archive, whole or not at all; numbers of files and links, and bytes.

    Raises InputError when Snakemake is at work there, the name ends otherwise, or the archive would lie in the folder itself.
    """
    mode = MODES.get(destination.suffix)
    if mode is None:
        raise InputError(f"{destination}: should end in .tar, .tar.gz or .tar.xz")
    if destination.resolve().is_relative_to(run.resolve()):
        raise InputError(f"{destination}: lies in the folder that it is to hold")
    if any((run / ".snakemake" / "locks").glob("*")):
        raise InputError(f"{run}: Snakemake is at work there, or was killed; let it finish, or run it with --unlock")
    names = archived_names(run)
    manifest = {str(name): _told(run / name) for name in names}
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    try:
        with tarfile.open(partial, mode) as archive:
            _add_text(archive, MANIFEST, json.dumps(manifest, indent=0))
            for name in names:
                archive.add(run / name, arcname=str(name), recursive=False)
        _check_packed(partial, manifest)
        os.replace(partial, destination)
    finally:
        partial.unlink(missing_ok=True)
    files, links = (sum(kind in entry for entry in manifest.values()) for kind in ("bytes", "link"))
    return {"files": files, "links": links, "bytes": sum(int(entry.get("bytes", 0)) for entry in manifest.values())}


def unpack(archive_path: Path, run: Path) -> list[str]:
    """Unpack into a folder that is not there yet; links that lead nowhere there, as raw data that stayed behind.

    Raises InputError when the folder is there, or a file is not what it was.
    """
    if run.exists() and any(run.iterdir()):
        raise InputError(f"{run}: is there already and not empty")
    run.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive_path) as archive:
        first = archive.next()
        stream = archive.extractfile(first) if first is not None and first.name == MANIFEST else None
        if stream is None:
            raise InputError(f"{archive_path}: is no archive of a run, since it does not begin with {MANIFEST}")
        manifest = json.loads(stream.read())
        for member in archive:
            if member.name != MANIFEST:
                _extract(archive, member, run)
    wrong = [name for name, entry in manifest.items() if not _is_as_told(run / name, entry)]
    if wrong:
        raise InputError(f"{archive_path}: {len(wrong)} files did not come back as they were, the first is {wrong[0]}")
    return [name for name, entry in manifest.items() if "link" in entry and not (run / name).exists()]


def _files(run: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(run):
        here = Path(folder)
        folders[:] = [name for name in folders if not _is_left_out(here / name, run)]
        links = [name for name in folders if (here / name).is_symlink()]
        if not folders and not names and here != run:
            yield here
        yield from (here / name for name in [*names, *links] if not _is_left_out(here / name, run))


def _is_left_out(path: Path, run: Path) -> bool:
    name = str(path.relative_to(run))
    return name in LEFT_OUT or (path.name.startswith(".") and path.name.endswith(UNFINISHED))


def _told(path: Path) -> dict[str, str | int]:
    if path.is_symlink():
        return {"link": os.readlink(path)}
    if path.is_dir():
        return {"folder": path.name}
    return {"bytes": path.stat().st_size, "blake2b": _digest(path)}


def _is_as_told(path: Path, entry: dict[str, str | int]) -> bool:
    return (path.is_symlink() or path.exists()) and _told(path) == entry


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _check_packed(path: Path, manifest: dict[str, dict[str, str | int]]) -> None:
    """That every file is in the archive as long as it was when it was looked at."""
    with tarfile.open(path) as archive:
        sizes = {member.name: member.size for member in archive}
    changed = [name for name, entry in manifest.items() if "bytes" in entry and sizes.get(name) != entry["bytes"]]
    if changed:
        raise InputError(f"{changed[0]}: changed while it was packed; let what writes there finish first")


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, run: Path) -> None:
    """A member within the folder; links are made as they were, wherever they lead, files never through them."""
    target = run / member.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if Path(member.name).is_absolute() or not target.parent.resolve().is_relative_to(run.resolve()):
        raise InputError(f"{member.name}: leads out of the folder")
    if member.issym():
        target.symlink_to(member.linkname)
        os.utime(target, (member.mtime, member.mtime), follow_symlinks=False)
    elif member.isdir():
        target.mkdir(exist_ok=True)
    elif member.isfile():
        archive.extract(member, run, filter="tar")
    else:
        raise InputError(f"{member.name}: is neither a file, a folder nor a link")
