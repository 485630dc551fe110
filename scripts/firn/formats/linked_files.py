"""A folder for another program that finds the session's files under the very paths of the run folder, by relative links.

Convention: the folder holds `results/<job>` for what a job made, and the first folder of any other path, as links; so no name changes on the
way to the other program and back, links are few, and they hold when the run folder is moved. Only files whose names RELION does not read get
links of other names, in the folder PLAIN; on the way back they are known by the names of the files that these lead to.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from firn.errors import InputError
from firn.formats.tables import ABSENT, join_image_names, split_image_names

IMAGES = ("image", "unsubtracted_image")
FILES = ("micrograph", "micrograph_plain", "micrograph_odd", "micrograph_even", "movie", "motion_star", "gain", "ctf_image", "mtf")
"""Columns that name files; those of IMAGES as `number@stack`."""
PLAIN = "plain_names"
LONGEST_STEM = 40
MOST_LINKS = 40
_UNREAD = re.compile(r"""[#:%"'\t]""")
"""Letters in names that RELION 3.1 takes for marks of a format, or does not write as it read them."""


def bring_files(folder: Path, home: Path, files: Iterable[str], copies: bool = False, renamed: Mapping[str, str] | None = None) -> set[str]:
    """Link, or copy, files of the run folder into a folder; those outside the run folder that it needs, by their absolute paths.

    home: where the folder will lie, relative to the run folder. renamed: files by the names that they have in the folder, where these differ.
    """
    renamed = renamed or {}
    sources = {name: renamed.get(name, name) for name in files}
    inside = {name: source for name, source in sources.items() if not os.path.isabs(name)}
    links = {name if name in renamed else root_of(name): source if name in renamed else root_of(name) for name, source in inside.items()}
    for name, source in (inside if copies else links).items():
        target = folder / name
        if target.is_symlink() or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if copies and not Path(source).is_file():
            raise InputError(f"{source}: is not there, so it cannot be copied; hand on without copy_files, or bring it back")
        if copies:
            shutil.copyfile(source, target)
        else:
            target.symlink_to(source if os.path.isabs(source) else os.path.relpath(source, (home / name).parent))
    return {source for name, source in sources.items() if os.path.isabs(source) and not (copies and name in inside)}


def with_plain_names(table: pd.DataFrame, folder: str | os.PathLike = PLAIN) -> tuple[pd.DataFrame, dict[str, str]]:
    """(the table with names that RELION reads, in a folder, for files that have others; those files by their new names)."""
    places = {name: str(Path(folder) / _plain_name(name)) for name in named_files(table) if _UNREAD.search(name)}
    return with_files(table, places), {place: name for name, place in places.items()}


def with_files(table: pd.DataFrame, places: Mapping[str, str]) -> pd.DataFrame:
    """The table with other names for some of the files that its columns name; marks of a format, as in `x.ctf:mrc`, stay."""
    changed: dict[str, pd.Series] = {}
    for column in (name for name in FILES if name in table.columns):
        names = table[column].astype(str)
        known = {name: places[plain] + name.removeprefix(plain) for name in names.unique() if (plain := _without_mark(name)) in places}
        changed |= {column: names.map(known).fillna(table[column])} if known else {}
    for column in (name for name in IMAGES if name in table.columns):
        sections, stacks = split_image_names(table[column])
        if not places.keys().isdisjoint(stacks):
            changed[column] = pd.Series(join_image_names(sections, [places.get(stack, stack) for stack in stacks]), index=table.index)
    return table.assign(**changed)


def _plain_name(name: str) -> str:
    """A name that tells what the file was called, and is that of no other file."""
    path = Path(_UNREAD.sub("_", Path(name).name))
    return f"{path.stem[:LONGEST_STEM]}_{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}{path.suffix}"


def files_of(table: pd.DataFrame) -> list[str]:
    """Files that a table of exposures or particles names, each once; raises InputError when one leaves the run folder by `..`."""
    found = named_files(table)
    stray = next((name for name in found if ".." in Path(name).parts), None)
    if stray is not None:
        raise InputError(
            f"{stray}: leaves the run folder, so that no other program would find it; give its absolute path where it is imported"
        )
    return found


def named_files(table: pd.DataFrame) -> list[str]:
    """Files that a table of exposures or particles names, each once."""
    names: list[str] = []
    for column in (name for name in IMAGES if name in table.columns):
        names += list(pd.unique(split_image_names(table[column])[1]))
    for column in (name for name in FILES if name in table.columns):
        names += [_without_mark(str(name)) for name in table[column].dropna().unique() if str(name) not in ABSENT]
    return list(dict.fromkeys(names))


def _without_mark(name: str) -> str:
    """A name without the mark of a format that RELION may put behind it, as in `x.ctf:mrc`."""
    return name.removesuffix(":mrc").removesuffix(":mrcs")


def path_in_run(place: str | os.PathLike) -> str:
    """Path by which the run folder knows a file: relative to it where the file lies inside, be it by links, else absolute.

    Links within the run folder are followed as far as they stay in it, and those in the folder PLAIN wherever they lead.
    """
    here, real, known = Path.cwd(), Path(os.path.realpath(place)), Path(os.path.abspath(place))
    if real.is_relative_to(here):
        return str(real.relative_to(here))
    for _ in range(MOST_LINKS):
        further = _followed(known)
        if further is None or not (further.is_relative_to(here) or PLAIN in known.parts):
            break
        known = further
    return str(known.relative_to(here) if known.is_relative_to(here) else known)


def _followed(path: Path) -> Path | None:
    """The path with its first link replaced by what that leads to; None without links."""
    link = next((part for part in (*reversed(path.parents), path) if part.is_symlink()), None)
    return None if link is None else Path(os.path.normpath(link.parent / os.readlink(link) / path.relative_to(link)))


def root_of(name: str) -> str:
    """The folder that is linked for a relative path: a job's results, or the first folder; a file beside them itself."""
    parts = Path(name).parts
    return str(Path(*parts[:2])) if parts[0] == "results" and len(parts) > 2 else parts[0]
