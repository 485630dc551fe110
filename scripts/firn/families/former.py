"""What an earlier run of the fused worker left in its folder, so far as it would come out the same: micrographs, CTF, even picks.

A batch whose picker or limits changed is made again without motion and CTF, and without picking where only limits changed. `steps.json` tells by
what settings, of which input, the exposures of the folder were made; `maxima_<key>.star` holds all maxima before limits, the key standing for
all that they depend on, so that a run that was killed while it replaced a folder misleads nobody.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from firn.formats.exposures import picks_table
from firn.formats.tables import read_table, write_table
from firn.runtime.atomic import write_json
from firn.runtime.job import Job

RECORD, EXPOSURES = "steps.json", "exposures.star"
FOUND = ("x_px", "y_px", "pick_score", "pick_power", "diameter", "psi", "class_number")
"""Columns of maxima; the others follow from the exposure."""
FIGURES = ("motion_", "ctf_")
FILES = ("micrograph", "micrograph_plain", "micrograph_odd", "micrograph_even", "motion_star", "thumbnail")
"""Columns that name files of an exposure."""


@dataclass(frozen=True)
class Keys:
    """Digests of all that decides the images and CTF of a batch, and of all that decides its maxima too."""

    seen: str
    picked: str

    @property
    def maxima(self) -> str:
        """Name of the file with the maxima."""
        return f"maxima_{self.picked}.star"


@dataclass(frozen=True)
class Former:
    """Rows and maxima of the exposures that need not be made again, and the figures of motion and CTF."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    maxima: pd.DataFrame | None = None
    figures: tuple[dict[str, str], ...] = ()

    def maxima_of(self, row: Mapping[str, Any]) -> pd.DataFrame | None:
        """All maxima of an exposure, or None where they must be found again."""
        if self.maxima is None:
            return None
        own = self.maxima[self.maxima["exposure_id"] == str(row["exposure_id"])]
        columns = {name: own[name].to_numpy() for name in FOUND if name in own.columns and own[name].notna().all()}
        return picks_table(row, columns)


def keys_of(job: Job[Any], steps: Mapping[str, Any]) -> Keys:
    """Keys of a run: steps are the parameters of motion, ctf and picker by these names."""
    table = job.input("exposures", "exposures.star").read_bytes()
    shared = [type(job.params).revision, job.params.local_motion, job.params.thumbnail_px, _hashed(table)]
    seen = _digest([shared, _parameters(steps["motion"]), _parameters(steps["ctf"])])
    templates = [_hashed(path.read_bytes()) for folder in job.inputs.get("templates", []) for path in sorted(Path(folder).glob("classes*"))]
    return Keys(seen, _digest([seen, _parameters(steps["picker"]), templates]))


def former_run(job: Job[Any], keys: Keys) -> Former:
    """What lies in the job's folder and holds for these keys; nothing where it was made otherwise, or its images are gone."""
    try:
        record = json.loads((job.home / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return Former()
    exposures, maxima = job.home / EXPOSURES, job.home / keys.maxima
    if record.get("seen") != keys.seen or not exposures.exists() or record.get("exposures") != _hashed(exposures.read_bytes()):
        return Former()
    rows = {str(row["exposure_id"]): row for row in read_table(exposures, "exposures").to_dict("records")}
    whole = {name: row for name, row in rows.items() if all(Path(str(row[file])).exists() for file in FILES if file in row)}
    return Former(whole, read_table(maxima, "picks") if maxima.exists() else None, tuple(record["figures"]))


def take_over(job: Job[Any], former: Former) -> None:
    """Lay the files and figures of the former rows into the job's new folder, under their names."""
    for row in former.rows.values():
        for path in (Path(str(row[file])) for file in FILES if file in row):
            _link(path, job.folder / path.relative_to(job.home))
    for figure in former.figures:
        if (job.home / figure["file"]).exists():
            _link(job.home / figure["file"], job.folder / figure["file"])
            job.figures.append(dict(figure))


def leave(job: Job[Any], keys: Keys, maxima: pd.DataFrame) -> None:
    """Write steps.json and the maxima beside the exposures, for a run to come."""
    kept = [name for name in ("exposure_id", *FOUND) if name in maxima.columns]
    write_table(job.folder / keys.maxima, maxima[kept], "picks")
    figures = [figure for figure in job.figures if Path(figure["file"]).name.startswith(FIGURES)]
    write_json(job.folder / RECORD, {"seen": keys.seen, "exposures": _hashed((job.folder / EXPOSURES).read_bytes()), "figures": figures})


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _parameters(params: Any) -> dict[str, Any]:
    content: dict[str, Any] = params.model_dump(exclude={"templates", "exposures", "plots"})
    return content


def _digest(content: Any) -> str:
    return _hashed(json.dumps(content, sort_keys=True, default=str).encode())


def _hashed(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
