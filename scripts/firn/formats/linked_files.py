"""A folder for another program that finds the session's files under the very paths of the run folder, by relative links.

Convention: the folder holds `results/<job>` for what a job made, and the first folder of any other path, as links; so no name changes on the
way to the other program and back, links are few, and they hold when the run folder is moved.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from firn.errors import InputError
from firn.formats.tables import ABSENT, split_image_names

IMAGES = ("image", "unsubtracted_image")
FILES = ("micrograph", "micrograph_plain", "micrograph_odd", "micrograph_even", "movie", "motion_star", "gain", "ctf_image", "mtf")
"""Columns that name files; those of IMAGES as `number@stack`."""


def bring_files(folder: Path, home: Path, files: Iterable[str], copies: bool = False) -> set[str]:
    """Link, or copy, files of the run folder into a folder; those outside the run folder, which keep their absolute paths.

    home: where the folder will lie, relative to the run folder.
    """
    names = list(files)
    inside = [name for name in names if not os.path.isabs(name)]
    for name in inside if copies else dict.fromkeys(root_of(name) for name in inside):
        target = folder / name
        if target.is_symlink() or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if copies and not Path(name).is_file():
            raise InputError(f"{name}: is not there, so it cannot be copied; hand on without copy_files, or bring it back")
        if copies:
            shutil.copyfile(name, target)
        else:
            target.symlink_to(os.path.relpath(name, (home / name).parent))
    return set(names) - set(inside)


def files_of(table: pd.DataFrame) -> list[str]:
    """Files that a table of exposures or particles names, each once; raises InputError when one leaves the run folder by `..`."""
    names: list[str] = []
    for column in (name for name in IMAGES if name in table.columns):
        names += list(pd.unique(split_image_names(table[column])[1]))
    for column in (name for name in FILES if name in table.columns):
        names += [_without_mark(str(name)) for name in table[column].dropna().unique() if str(name) not in ABSENT]
    found = list(dict.fromkeys(names))
    stray = next((name for name in found if ".." in Path(name).parts), None)
    if stray is not None:
        raise InputError(
            f"{stray}: leaves the run folder, so that no other program would find it; give its absolute path where it is imported"
        )
    return found


def _without_mark(name: str) -> str:
    """A name without the mark of a format that RELION may put behind it, as in `x.ctf:mrc`."""
    return name.removesuffix(":mrc").removesuffix(":mrcs")


def path_in_run(place: str | os.PathLike) -> str:
    """Path by which the run folder knows a file: relative to it where the file lies inside, be it by links, else absolute."""
    here, real, given = Path.cwd(), Path(place).resolve(), Path(os.path.abspath(place))
    inside = next((path for path in (real, given) if path.is_relative_to(here)), None)
    return str(given if inside is None else inside.relative_to(here))


def root_of(name: str) -> str:
    """The folder that is linked for a relative path: a job's results, or the first folder; a file beside them itself."""
    parts = Path(name).parts
    return str(Path(*parts[:2])) if parts[0] == "results" and len(parts) > 2 else parts[0]
