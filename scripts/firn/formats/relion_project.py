"""A folder that RELION opens as a project: imported micrographs, particles and maps, with links to the files they name.

Convention: names in the STAR files are relative to the project folder, as RELION's are, and are the very paths of the run folder, which
the project folder holds as links: `results/<job>` for what a job made, and the first folder of any other path. So no name changes on
the way to RELION and back. Job folders, exit marks and the pipeline follow RELION 3.1.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from firn.errors import InputError
from firn.formats.mrc_header import read_mrc_header
from firn.formats.star import write_star
from firn.formats.tables import split_image_names, write_table

IMAGES = ("image", "unsubtracted_image")
FILES = ("micrograph", "micrograph_plain", "micrograph_odd", "micrograph_even", "movie", "motion_star", "gain", "ctf_image")
"""Columns that name files; those of IMAGES as `number@stack`."""
ABSENT = ("", "None", "nan")
HALF_PRECISION = 12
NODES = {"movies.star": 0, "micrographs.star": 1, "particles.star": 3, "mask.mrc": 7}
REFERENCE, HALF_MAP = 6, 10
IMPORT, FINISHED = 0, 2
"""Node and process types of RELION 3.1's pipeline."""
HALVES = {"half1.mrc": "run_half1_class001_unfil.mrc", "half2.mrc": "run_half2_class001_unfil.mrc"}
"""Names by which RELION knows that two maps are halves of one."""


@dataclass
class Project:
    """A project folder being written; home: where it will lie, relative to the run folder; copies: whether files are copied, not linked."""

    folder: Path
    home: Path
    copies: bool = False
    nodes: list[tuple[str, int]] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)

    def add_table(self, table: pd.DataFrame, kind: str) -> Path:
        """Write exposures or particles as an import job, with the files that they name; the path of the STAR file."""
        block = "movies" if kind == "exposures" and "micrograph" not in table.columns else kind
        name = {"movies": "movies.star", "exposures": "micrographs.star", "particles": "particles.star"}[block]
        self._bring(files_of(table))
        path = self._new_job() / name
        write_table(path, table, block)
        self._node(path, NODES[name])
        return path

    def add_maps(self, volume: Path | None, mask: Path | None) -> None:
        """The map, half maps and mask in the folder of a volume, or a mask of its own, as an import job."""
        given = {name: volume / name for name in ("map.mrc", *HALVES, "mask.mrc") if volume is not None and (volume / name).exists()}
        given |= {"mask.mrc": mask} if mask is not None else {}
        job = self._new_job()
        for name, source in given.items():
            target = job / HALVES.get(name, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.copies:
                shutil.copyfile(source, target)
            else:
                target.symlink_to(os.path.relpath(source, self.home / target.parent.relative_to(self.folder)))
            self._node(target, HALF_MAP if name in HALVES else NODES.get(name, REFERENCE))

    def finish(self) -> None:
        """Write RELION's marks and its pipeline, so that its window shows the imports."""
        (self.folder / ".gui_projectdir").touch()
        jobs = [f"{parent}/" for parent in dict.fromkeys(str(Path(name).parent) for name, _ in self.nodes)]
        for job in jobs:
            (self.folder / job / "RELION_JOB_EXIT_SUCCESS").touch()
        names, types = [name for name, _ in self.nodes], [kind for _, kind in self.nodes]
        write_star(
            self.folder / "default_pipeline.star",
            {
                "pipeline_general": pd.DataFrame({"rlnPipeLineJobCounter": [len(jobs) + 1]}),
                "pipeline_processes": pd.DataFrame(
                    {
                        "rlnPipeLineProcessName": jobs,
                        "rlnPipeLineProcessAlias": "None",
                        "rlnPipeLineProcessType": IMPORT,
                        "rlnPipeLineProcessStatus": FINISHED,
                    }
                ),
                "pipeline_nodes": pd.DataFrame({"rlnPipeLineNodeName": names, "rlnPipeLineNodeType": types}),
                "pipeline_output_edges": pd.DataFrame(
                    {"rlnPipeLineEdgeProcess": [f"{Path(name).parent}/" for name in names], "rlnPipeLineEdgeToNode": names}
                ),
            },
        )

    def _new_job(self) -> Path:
        number = 1 + len({str(Path(name).parent) for name, _ in self.nodes})
        return self.folder / "Import" / f"job{number:03d}"

    def _node(self, path: Path, kind: int) -> None:
        self.nodes.append((str(path.relative_to(self.folder)), kind))

    def _bring(self, files: Iterable[str]) -> None:
        """Link or copy the files; those outside the run folder keep their absolute paths."""
        inside = [name for name in files if not os.path.isabs(name)]
        self.outside |= {name for name in files if os.path.isabs(name)}
        for name in inside if self.copies else dict.fromkeys(root_of(name) for name in inside):
            target = self.folder / name
            if target.is_symlink() or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.copies:
                shutil.copyfile(name, target)
            else:
                target.symlink_to(os.path.relpath(name, (self.home / name).parent))


def files_of(table: pd.DataFrame) -> list[str]:
    """Files that a table of exposures or particles names, each once; raises InputError when one leaves the run folder by `..`."""
    names: list[str] = []
    for column in (name for name in IMAGES if name in table.columns):
        names += list(pd.unique(split_image_names(table[column])[1]))
    for column in (name for name in FILES if name in table.columns):
        names += [str(name) for name in table[column].dropna().unique() if str(name) not in ABSENT]
    found = list(dict.fromkeys(names))
    stray = next((name for name in found if ".." in Path(name).parts), None)
    if stray is not None:
        raise InputError(f"{stray}: leaves the run folder, so that RELION would not find it; give its absolute path where it is imported")
    return found


def root_of(name: str) -> str:
    """The folder that is linked for a relative path: a job's results, or the first folder; a file beside them itself."""
    parts = Path(name).parts
    return str(Path(*parts[:2])) if parts[0] == "results" and len(parts) > 2 else parts[0]


def half_precision(table: pd.DataFrame) -> list[str]:
    """Stacks and micrographs of half precision (MRC mode 12), which RELION reads from version 4 on."""
    images = [name for name in files_of(table) if name.endswith((".mrc", ".mrcs")) and Path(name).is_file()]
    return [name for name in images if read_mrc_header(name).mode == HALF_PRECISION]
