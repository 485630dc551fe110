"""Micrographs and coordinates of RELION projects, brought to firn's names, paths and identities.

Convention: an exposure's id follows from the name that the project has for its micrograph, as its particles' do; a table that has ids keeps them.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from firn.errors import ExposureError, InputError
from firn.formats import ids
from firn.formats.compressed import no_damage
from firn.formats.discovery import batch_names, check_headers
from firn.formats.exposures import IDENTITY, picks_table
from firn.formats.foreign_particles import with_old_pixel_size
from firn.formats.linked_files import named_files, path_in_run, with_files
from firn.formats.movie import MovieHeader
from firn.formats.tables import read_table, require_columns

NEEDS = ("voltage_kv", "cs_mm", "amplitude_contrast", "micrograph_pixel_size")


def read_foreign_exposures(path: str | os.PathLike, project: Path, batch_size: int) -> tuple[pd.DataFrame, dict[str, ExposureError]]:
    """(exposures with optics, CTF, ids, batches and sizes; faults of those whose micrographs cannot be used, by path).

    `name_there` is the name that the project has for the micrograph. No image is read, only its header.
    Raises InputError when the table lacks its optics or has no rows.
    """
    table = with_old_pixel_size(read_table(path, "exposures", needs=("micrograph",)), "micrograph_pixel_size")
    if table.empty:
        raise InputError(f"{path}: has no micrographs")
    require_columns(table, NEEDS, path)
    named = table["micrograph"].astype(str)
    table = with_paths_in_run(table.assign(name_there=named), project)
    if "exposure_id" not in table.columns:
        table = table.assign(exposure_id=[ids.exposure_id(name) for name in named])
    headers, faults = check_headers(table["micrograph"])
    faults |= {name: _movie_fault(name, header) for name, header in headers.items() if header.frames != 1}
    sizes = table["micrograph"].map({name: (header.width, header.height) for name, header in headers.items() if name not in faults})
    table = table[sizes.notna()].reset_index(drop=True)
    sizes = sizes.dropna()
    table = table.assign(width_px=[width for width, _ in sizes], height_px=[height for _, height in sizes])
    return table if "batch" in table.columns else table.assign(batch=batch_names(len(table), batch_size)), faults


def with_paths_in_run(table: pd.DataFrame, project: Path) -> pd.DataFrame:
    """The table with the files that its columns name as the run folder knows them, apart from `image`."""
    with no_damage(project, "the folder of files that its tables name"):
        others = table.drop(columns="image", errors="ignore")
        found = with_files(others, {name: path_in_run(project / name) for name in named_files(others)})
        return found.assign(image=table["image"])[list(table.columns)] if "image" in table.columns else found


def read_foreign_picks_of(files: Mapping[str, Path], exposures: pd.DataFrame) -> list[pd.DataFrame]:
    """Pick tables, with all columns of their files, of the exposures whose `name_there` has a file; errors as read_table."""
    tables = []
    for row in exposures[exposures["name_there"].isin(files)].to_dict("records"):
        picks = read_table(files[row["name_there"]], "picks", needs=("x_px", "y_px")).drop(
            columns=[*IDENTITY, "particle_id"], errors="ignore"
        )
        tables.append(picks_table({name: value for name, value in row.items() if name not in picks.columns}, dict(picks)))
    return tables


def _movie_fault(name: str, header: MovieHeader) -> ExposureError:
    return ExposureError("FRAMES", f"{name}: holds {header.frames} images, so it is a movie or a stack and not a micrograph")
