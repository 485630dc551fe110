"""A folder that RELION opens as a project: imported micrographs, particles and maps, with links to the files they name.

Convention: names in the STAR files are relative to the project folder, as RELION's are, and are those of the run folder (see linked_files).
Job folders with their options and exit marks, the pipeline, and the folder `.Nodes` in which RELION's window looks for inputs follow RELION 3.1.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from firn.formats.linked_files import bring_files, files_of, with_plain_names
from firn.formats.mrc_header import read_mrc_header
from firn.formats.star import write_star
from firn.formats.tables import write_table

HALF_PRECISION = 12
NODES = {"movies.star": 0, "micrographs.star": 1, "particles.star": 3, "mask.mrc": 7}
REFERENCE, HALF_MAP = 6, 10
IMPORT, FINISHED = 0, 2
"""Node and process types of RELION 3.1's pipeline."""
HALVES = {"half1.mrc": "run_half1_class001_unfil.mrc", "half2.mrc": "run_half2_class001_unfil.mrc"}
"""Names by which RELION knows that two maps are halves of one."""
LABELS = {
    NODES["movies.star"]: "",
    NODES["micrographs.star"]: "Micrographs STAR file (.star)",
    NODES["particles.star"]: "Particles STAR file (.star)",
    NODES["mask.mrc"]: "3D mask (.mrc)",
    REFERENCE: "3D reference (.mrc)",
    HALF_MAP: "Unfiltered half-map (unfil.mrc)",
}
"""What RELION's window calls files of other types than movies in its import jobs."""


@dataclass
class Project:
    """A project folder being written; home: where it will lie, relative to the run folder; copies: whether files are copied, not linked."""

    folder: Path
    home: Path
    copies: bool = False
    nodes: list[tuple[str, int]] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)
    half_precision: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)

    def add_table(self, table: pd.DataFrame, kind: str) -> Path:
        """Write exposures or particles as an import job, with the files that they name; the path of the STAR file."""
        block = "movies" if kind == "exposures" and "micrograph" not in table.columns else kind
        name = {"movies": "movies.star", "exposures": "micrographs.star", "particles": "particles.star"}[block]
        self.half_precision |= half_precision(files_of(table))
        table, renamed = with_plain_names(table)
        self.outside |= bring_files(self.folder, self.home, files_of(table), self.copies, renamed)
        self.renamed |= renamed
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
        """Write RELION's marks and its pipeline, so that its window shows the imports and offers their files as inputs."""
        (self.folder / ".gui_projectdir").touch()
        firsts = {f"{Path(name).parent}/": (name, kind) for name, kind in reversed(self.nodes)}
        jobs = [*reversed(firsts)]
        for job in jobs:
            (self.folder / job / "RELION_JOB_EXIT_SUCCESS").touch()
            write_star(self.folder / job / "job.star", _options(*firsts[job]))
        for name, kind in self.nodes:
            node = self.folder / ".Nodes" / str(kind) / name
            node.parent.mkdir(parents=True, exist_ok=True)
            node.touch()
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


def _options(name: str, kind: int) -> dict[str, pd.DataFrame]:
    """What RELION's window shows of an import job: which file was imported as what."""
    other = bool(LABELS[kind])
    told = {"do_raw": "No" if other else "Yes", "do_other": "Yes" if other else "No", "is_multiframe": "Yes"}
    told |= {"fn_in_other": name, "node_type": LABELS[kind]} if other else {"fn_in_raw": name}
    return {
        "job": pd.DataFrame({"rlnJobType": [IMPORT], "rlnJobIsContinue": [0]}),
        "joboptions_values": pd.DataFrame({"rlnJobOptionVariable": list(told), "rlnJobOptionValue": list(told.values())}),
    }


def half_precision(files: Iterable[str]) -> set[str]:
    """Stacks and micrographs of half precision (MRC mode 12), which RELION reads from version 4 on."""
    images = [name for name in files if name.endswith((".mrc", ".mrcs")) and Path(name).is_file()]
    return {name for name in images if read_mrc_header(name).mode == HALF_PRECISION}
