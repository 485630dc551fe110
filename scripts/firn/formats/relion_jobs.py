"""Which files of a RELION project's jobs hold micrographs, coordinates, particles, 2D classes, maps and masks.

Convention: names as RELION 3.0 to 5 write them for single particles. Of several iterations the last counts, and the final files of a
refinement before those of its iterations. Names in the project's files are relative to the project folder.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from firn.errors import InputError, brief
from firn.formats.compressed import no_damage
from firn.formats.star import read_star
from firn.formats.tables import join_image_names, read_table, split_image_names

PIPELINE = "default_pipeline.star"
SUCCEEDED = (2, "Succeeded")
"""How RELION 3 and RELION 4 write in the pipeline that a job is finished."""
_RUN = r"run(_ct\d+)?"
_ITERATION = _RUN + r"_it\d+"
FILES = {
    "micrographs": (r"micrographs_ctf\.star", r"corrected_micrographs\.star", r"micrographs.*\.star", r"join_mics\.star"),
    "picks": (r".*pick(er|s)?\.star", r"coords_suffix_.*\.star"),
    "particles": (
        _RUN + r"_data\.star", _ITERATION + r"_data\.star", r"particles_ctf_refine\.star", r"shiny\.star", r"particles.*\.star",
        r"join_particles\.star",
    ),
    "volume": (
        _RUN + r"_class001\.mrc", r"postprocess\.mrc", r"initial_model\.mrc", _ITERATION + r"(_half1)?_class001\.mrc",
    ),
    "mask": (r"mask\.mrc",),
    "templates": (_ITERATION + r"_classes\.mrcs",),
}  # fmt: skip
"""Patterns of names by kind, the best first."""
FREELY_NAMED = ("Import", "External")
"""Folders of jobs whose files have the names that people gave them."""
ANY_MAP = {"volume": (r"map\.mrc", r"(?!.*(mask|half[12])).*\.mrc", r".*half1.*\.mrc"), "mask": (r".*mask.*\.mrc",)}
BLOCKS = {"micrographs": ("micrographs",), "particles": ("particles", "images")}
"""Blocks by which a table of another name is known."""


@dataclass(frozen=True)
class Maps:
    """Maps of a job: one per class with the share of the particles in it, the two half maps, and the mask that goes with them."""

    classes: dict[Path, float]
    halves: tuple[Path, Path] | None = None
    mask: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Files by firn's names of them; the map is that of the largest class."""
        found = {"map": max(self.classes, key=lambda path: self.classes[path])} if self.classes else {}
        found |= dict(zip(("half1", "half2"), self.halves, strict=True)) if self.halves else {}
        return found | ({"mask": self.mask} if self.mask else {})

    @property
    def are_filtered(self) -> bool:
        """Whether the half maps are those of an iteration, which RELION has filtered."""
        return self.halves is not None and re.fullmatch(_ITERATION + r"_half1_class001\.mrc", self.halves[0].name) is not None


def newest_jobs(project: Path) -> dict[str, str]:
    """Name of the last finished job that has a file of each kind.

    Raises InputError when the folder has no pipeline, or no job in it has any.
    """
    if not (project / PIPELINE).is_file():
        raise InputError(f"{project}: has no {PIPELINE}, so it is no RELION project; name the jobs or files to bring in")
    with no_damage(project / PIPELINE, "RELION's list of jobs"):
        names = [name for name in _finished(project) if (project / name).is_dir()]
    newest = {kind: next((name for name in names if _best_file(project / name, kind)), None) for kind in FILES}
    if not any(newest.values()):
        raise InputError(f"{project}: none of its {len(names)} finished jobs has anything that can be brought in")
    return {kind: name for kind, name in newest.items() if name is not None}


def find_output(project: Path, name: str, kind: str) -> Path:
    """The file of a kind in a job such as `Refine3D/job019` or `job019`, or the file that is named itself.

    Raises InputError when there is no such job, or nothing of the kind in it.
    """
    place = project / name
    if not place.exists() and re.fullmatch(r"job\d+/?", name):
        place = next(iter(sorted(project.glob(f"*/{name}"))), place)
    if place.is_file():
        return place
    if not place.is_dir():
        jobs = sorted(str(path.relative_to(project)) for path in project.glob("*/job[0-9]*"))
        raise InputError(f"{project}: has no job or file '{brief(name)}'; its jobs are {brief(', '.join(jobs)) or 'none'}")
    found = _best_file(place, kind)
    if found is None:
        files = sorted(path.name for path in place.iterdir())
        raise InputError(f"{place}: has no {kind} of single particles; it holds {brief(', '.join(files)) or 'nothing'}")
    return found


def find_maps(project: Path, name: str) -> Maps:
    """The maps of a job with half maps and mask, those of the classes of a `..._model.star`, or the one map that is named; errors as find_output."""
    path = find_output(project, name, "volume")
    if path.suffix == ".star":
        return Maps({project / image: share for image, share in _model_classes(path).items()})
    if path.name == "postprocess.mrc" and path.with_suffix(".star").is_file():
        with no_damage(path.with_suffix(".star"), "a postprocessing"):
            return _postprocessed(project, path)
    halves = _halves(path)
    mask = _latest(path.parent, FILES["mask"])
    if "half1" in path.name and halves:
        return Maps({}, halves, mask)
    named = (project / name).is_file()
    return Maps({path: 1.0} if named or halves else _classes(path), halves, mask)


def read_2d_classes(project: Path, name: str) -> pd.DataFrame:
    """Classes of a 2D classification with class_number, class_image, class_count, class_fraction and class_resolution (Å); errors as find_output."""
    stack = find_output(project, name, "templates")
    model, data = (stack.with_name(stack.name.replace("_classes.mrcs", ending)) for ending in ("_model.star", "_data.star"))
    table = read_table(model, "classes", needs=("class_image", "class_fraction", "class_resolution"))
    sections, stacks = split_image_names(table["class_image"])
    table = table.assign(class_number=sections + 1, class_image=join_image_names(sections, [project / place for place in stacks]))
    counts = read_table(data, "particles", needs=("class_number",))["class_number"].value_counts()
    return table.assign(class_count=table["class_number"].map(counts).fillna(0).astype(int))


def coordinate_files(project: Path, path: Path) -> dict[str, Path]:
    """Files of coordinates that are there, by the name of their micrograph.

    path: RELION 4's table of them, or the file of RELION 3 whose name tells their ending. Raises InputError when it is neither.
    """
    if path.name.startswith("coords_suffix_"):
        with no_damage(path, "RELION's name of the micrographs that were picked in"):
            return _existing(_by_suffix(project, path))
    table = read_star(path).get("coordinate_files")
    if table is None or not {"rlnMicrographName", "rlnMicrographCoordinates"} <= set(table.columns):
        raise InputError(f"{path}: has no block data_coordinate_files with _rlnMicrographName and _rlnMicrographCoordinates")
    pairs = zip(table["rlnMicrographName"].astype(str), table["rlnMicrographCoordinates"].astype(str), strict=True)
    with no_damage(path, "a table of files of coordinates"):
        return _existing({name: project / file for name, file in pairs})


def _existing(files: Mapping[str, Path]) -> dict[str, Path]:
    return {name: file for name, file in files.items() if file.is_file()}


def _by_suffix(project: Path, path: Path) -> dict[str, Path]:
    """As RELION 3 names them: the micrograph's path behind the job that it names, without ending, and the suffix."""
    suffix = path.name.removeprefix("coords_suffix")
    sources = path.read_text(encoding="utf-8").split()
    if not sources or not (project / sources[0]).is_file():
        named = f"names '{brief(sources[0])}', which is not there" if sources else "does not name them"
        raise InputError(f"{path}: should name the micrographs that were picked in, but {named}")
    tables = [table for table in read_star(project / sources[0]).values() if "rlnMicrographName" in table.columns]
    if not tables:
        raise InputError(f"{project / sources[0]}: has no column _rlnMicrographName, but {path} names it")
    inside = {str(name): re.sub(r"^.*?/job\d{3}[^/]*/", "", str(name)) for name in tables[0]["rlnMicrographName"]}
    return {name: Path(f"{path.parent}/{Path(place).with_suffix('')}{suffix}") for name, place in inside.items()}


def _finished(project: Path) -> list[str]:
    """Names of finished jobs, the newest first."""
    table = read_star(project / PIPELINE).get("pipeline_processes", pd.DataFrame())
    status = next((name for name in ("rlnPipeLineProcessStatus", "rlnPipeLineProcessStatusLabel") if name in table.columns), None)
    if status is None or "rlnPipeLineProcessName" not in table.columns:
        return []
    names = table["rlnPipeLineProcessName"][table[status].isin(SUCCEEDED)].astype(str)
    return sorted((name.rstrip("/") for name in names), key=lambda name: _number(r"job(\d+)", name), reverse=True)


def _best_file(folder: Path, kind: str) -> Path | None:
    freely = folder.parent.name in FREELY_NAMED
    found = _latest(folder, (*FILES[kind], *(ANY_MAP.get(kind, ()) if freely else ())))
    if found is not None or not freely or kind not in BLOCKS:
        return found
    return next((path for path in sorted(folder.glob("*.star")) if _has_block(path, BLOCKS[kind])), None)


def _has_block(path: Path, blocks: Iterable[str]) -> bool:
    with path.open(encoding="utf-8", errors="replace") as stream:
        heads = {line.strip() for line in stream if line.startswith("data_")}
    return bool(heads & {f"data_{block}" for block in blocks})


def _latest(folder: Path, patterns: Iterable[str]) -> Path | None:
    """The file that fits the first pattern that any file fits, of the last iteration."""
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
    fitting = ([name for name in names if re.fullmatch(pattern, name)] for pattern in patterns)
    found = next((some for some in fitting if some), None)
    return folder / max(found, key=lambda name: (_number(r"_it(\d+)", name), _number(r"_ct(\d+)", name))) if found else None


def _number(pattern: str, name: str) -> int:
    """The number at a mark in a name, -1 without one."""
    found = re.search(pattern, name)
    return int(found[1]) if found else -1


def _halves(path: Path) -> tuple[Path, Path] | None:
    """Half maps of the same end or iteration of a run; for freely named maps the pair that lies beside them."""
    run = re.escape(re.sub(r"(_half1)?_class\d+(_unfil)?\.mrc$", "", path.name))
    patterns = [run + r"_half1_class001_unfil\.mrc", run + r"_half1_class001\.mrc"]
    first = _latest(path.parent, [*patterns, r".*half1.*\.mrc"] if path.parent.parent.name in FREELY_NAMED else patterns)
    second = first.with_name(first.name.replace("half1", "half2")) if first else None
    return (first, second) if first and second and second.is_file() else None


def _classes(path: Path) -> dict[Path, float]:
    """Maps of all classes of the same iteration, in order, with the share that its model tells; all alike without one."""
    classes = sorted(path.parent.glob(re.sub(r"class\d+", "class[0-9][0-9][0-9]", path.name)))
    model = path.with_name(re.sub(r"class\d+\.mrc$", "model.star", path.name))
    shares = {Path(image).name: share for image, share in _model_classes(model).items()} if model.is_file() else {}
    return {place: shares.get(place.name, 0.0) for place in classes}


def _model_classes(path: Path) -> dict[str, float]:
    """Names of the references of a model and their shares of the particles."""
    table = read_star(path).get("model_classes", pd.DataFrame())
    if not {"rlnReferenceImage", "rlnClassDistribution"} <= set(table.columns):
        raise InputError(f"{path}: has no block data_model_classes with _rlnReferenceImage and _rlnClassDistribution")
    with no_damage(path, "the classes of a model"):
        return dict(zip(table["rlnReferenceImage"].astype(str), table["rlnClassDistribution"].astype(float), strict=True))


def _postprocessed(project: Path, path: Path) -> Maps:
    """The half maps and the mask from which a sharpened map was made, where they are still there."""
    general = read_star(path.with_suffix(".star")).get("general", pd.DataFrame())
    labels = ("rlnUnfilteredMapHalf1", "rlnUnfilteredMapHalf2", "rlnMaskName")
    first, second, mask = (project / str(general[label].iloc[0]) if label in general.columns else None for label in labels)
    halves = (first, second) if first and second and first.is_file() and second.is_file() else None
    return Maps({path: 1.0}, halves, mask if mask and mask.is_file() else None)
