"""The commands of scripts/upkeep.py: what each takes, and what it prints. Each returns the exit code."""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firn.errors import InputError
from firn.upkeep.archive import archived_names, pack, unpack
from firn.upkeep.links import broken_links, move_raw
from firn.upkeep.sizes import measure, size_table, spoken_bytes
from firn.upkeep.validation import judge_run, read_expectations, verdict_table

ROOT = Path(__file__).resolve().parents[3]
STORE = Path.home() / ".local" / "share" / "firn" / "benchmarks.jsonl"


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
    _add_checks(commands)
    return parser.parse_args(words)


def _add_checks(commands: Any) -> None:
    """Commands that look at the installation and the machine."""
    installed = commands.add_parser("validate-installation", help="packages, job types, run folder, cache, devices, and a small session")
    installed.add_argument("--run", type=Path, default=Path(), help="folder in which sessions run; default: this one")
    installed.set_defaults(command=show_installation)
    speeds = commands.add_parser("benchmark-system", help="speeds of processors, memory, disk and devices, compared with earlier runs")
    speeds.add_argument("--folder", type=Path, default=Path(), help="folder whose disk is measured; default: this one")
    speeds.add_argument("--megabytes", type=int, default=1000, help="size of the file that is written and read there")
    speeds.add_argument("--store", type=Path, default=STORE, help=f"file of the runs; default: {STORE}")
    speeds.set_defaults(command=show_speeds)
    chain = commands.add_parser("extensive-validation", help="a whole session on known data, and its numbers against what is expected")
    chain.add_argument("run", type=Path, help="folder to run in; what is up to date there does not run again")
    chain.add_argument("--session", type=Path, default=ROOT / "config" / "config.yaml", help="config; default: the demo")
    chain.add_argument("--expect", type=Path, default=ROOT / "config" / "validation.yaml", help="bounds by job and metric")
    chain.add_argument("--profile", default=str(ROOT / "profiles" / "local"), help="profile of Snakemake")
    chain.add_argument("--judge-only", action="store_true", help="do not run anything, only compare")
    chain.set_defaults(command=run_validation)


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


def show_installation(given: argparse.Namespace) -> int:
    """Tell each check when it is done; 1 when one failed."""
    from firn.upkeep.installation import findings  # torch, which is slow to import

    good = True
    for found in findings(ROOT, given.run):
        _say(f"{'--  ' if found.good is None else 'ok  ' if found.good else 'BAD '} {found.name}: {found.told}")
        good &= found.good is not False
    return int(not good)


def show_speeds(given: argparse.Namespace) -> int:
    """Measure, compare and keep; 1 when something is clearly slower than it was."""
    from firn.upkeep.speeds import comparison_table, keep, measure_machine  # torch, which is slow to import

    compared = keep(measure_machine(given.folder, given.megabytes), given.store)
    _say(comparison_table(compared))
    return int(any(each.slower for each in compared))


def run_validation(given: argparse.Namespace) -> int:
    """Run the session, and judge its numbers; 1 when one is out of bounds."""
    expected = read_expectations(given.expect)
    if not given.judge_only:
        given.run.mkdir(parents=True, exist_ok=True)
        if not (given.run / "demo").exists():
            (given.run / "demo").symlink_to(ROOT / "demo")
        program = shutil.which("snakemake", path=str(Path(sys.executable).parent)) or "snakemake"
        command = [
            program,
            "--snakefile",
            str(ROOT / "Snakefile"),
            "--profile",
            given.profile,
            "--configfile",
            str(given.session.resolve()),
        ]
        code = subprocess.run([*command, "--directory", str(given.run)], check=False).returncode
        if code:
            raise InputError(f"Snakemake ended with code {code}; see the logs in {given.run / 'logs'}")
    verdicts = list(judge_run(given.run, expected))
    _say(verdict_table(verdicts))
    return int(not all(verdict.good for verdict in verdicts))


def _say(text: str) -> None:
    if text:
        sys.stdout.write(f"{text}\n")
