"""The commands of scripts/upkeep.py: what each takes, and what it prints. Each returns the exit code."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from firn.upkeep.archive import archived_names, pack, unpack
from firn.upkeep.links import broken_links, move_raw
from firn.upkeep.sizes import measure, size_table, spoken_bytes


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Arguments, with the function `command` that takes them."""
    parser = argparse.ArgumentParser(prog="upkeep.py", description="Care of run folders and installations.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sizes = commands.add_parser("sizes", help="what takes how much room in a run folder, by job and by kind")
    sizes.add_argument("run", type=Path)
    sizes.set_defaults(command=show_sizes)
    relink = commands.add_parser(
        "relink", help="raw data moved: correct links and tables; without OLD and NEW, list links that lead nowhere"
    )
    relink.add_argument("run", type=Path)
    relink.add_argument("old", type=Path, nargs="?", help="folder that the raw data lay in")
    relink.add_argument("new", type=Path, nargs="?", help="folder that they lie in now")
    relink.add_argument("--dry-run", action="store_true", help="tell what would be changed")
    relink.set_defaults(command=repair_links)
    archive = commands.add_parser("archive", help="a run folder as one checked file; links are not followed")
    archive.add_argument("run", type=Path)
    archive.add_argument("file", type=Path, help="ends in .tar, .tar.gz or .tar.xz")
    archive.add_argument("--dry-run", action="store_true", help="tell what would be packed")
    archive.set_defaults(command=pack_run)
    restored = commands.add_parser("unpack", help="an archive as a run folder again, every file checked")
    restored.add_argument("file", type=Path)
    restored.add_argument("run", type=Path, help="folder that is not there yet")
    restored.set_defaults(command=unpack_run)
    return parser.parse_args(words)


def show_sizes(given: argparse.Namespace) -> int:
    """Print sizes."""
    _say(size_table(measure(given.run)))
    return 0


def repair_links(given: argparse.Namespace) -> int:
    """Correct links, or list those that lead nowhere; 1 when some still do."""
    if given.old is not None and given.new is not None:
        moved = move_raw(given.run, given.old, given.new, given.dry_run)
        done = "would be" if given.dry_run else "were"
        _say(f"{len(moved.links)} links and {len(moved.tables)} tables {done} changed; {len(moved.missing)} files are not in the new place")
        _say("\n".join(moved.missing[:20]))
        return int(bool(moved.missing))
    broken = broken_links(given.run)
    _say("\n".join([*(str(path) for path in broken), f"{len(broken)} links lead nowhere"]))
    return int(bool(broken))


def pack_run(given: argparse.Namespace) -> int:
    """Pack a run, or tell how much it is."""
    if given.dry_run:
        sizes = [(given.run / name).lstat().st_size for name in archived_names(given.run)]
        _say(f"{len(sizes)} files and links, {spoken_bytes(sum(sizes))}")
        return 0
    told = pack(given.run, given.file)
    _say(
        f"{told['files']} files and {told['links']} links, {spoken_bytes(told['bytes'])}, packed to {spoken_bytes(given.file.stat().st_size)}"
    )
    return 0


def unpack_run(given: argparse.Namespace) -> int:
    """Unpack a run; links to what stayed behind are listed."""
    lost = unpack(given.file, given.run)
    _say(f"every file is as it was; {len(lost)} links lead to what is not here{': ' + ', '.join(lost[:10]) if lost else ''}")
    return 0


def _say(text: str) -> None:
    if text:
        sys.stdout.write(f"{text}\n")
