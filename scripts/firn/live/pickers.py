"""How is picked, as people or the session itself decide while movies come.

A decision is put down whole in `live/pickers.json`, with copies of its templates or its model in `live/pickers/<n>`: what changes in which job of the
config, and from which batch of each import on. The graph reads it there, while movies come and afterwards.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from firn.errors import InputError, hint_at
from firn.live import layout
from firn.live.control import BLOB_KEYS, LIMIT_KEYS, SHARED_KEYS, TEMPLATE_KEYS, TOPAZ_KEYS, Choice
from firn.live.rounds import Rounds, last_done, round_name
from firn.runtime.atomic import write_json

AS_CONFIG = {"scope": "all"}
"""What is asked for when nothing is."""
TOPAZ = "topaz_picker"
KEYS = {"blob_picker": (*SHARED_KEYS, *BLOB_KEYS), "template_picker": (*SHARED_KEYS, *TEMPLATE_KEYS, "templates"), TOPAZ: TOPAZ_KEYS}
SLOTS = {"template_picker": "templates", TOPAZ: "trained"}
"""Slot of a picker that takes the folder to pick with."""
FUSED, INSPECTION = "preprocess", "inspect_picks"
PREFIX = {"blob_picker": "blob_", "template_picker": "template_"}
WIDE = {"template_picker": "templates' mask", TOPAZ: "particles"}
"""What the diameter of a picker is of."""
MODEL_FILES = ("model.json", "model.sav")
"""Of a folder with a model."""
FEWEST_KEPT = 100
"""Particles in good classes with which a session goes over to templates by itself."""

SHOWN_TRIALS = 3

Picking = Mapping[str, Mapping[str, Any]]
"""`pickers` and `inspections` of an import, as firn.dag.picking tells."""


def picking_of(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the plan of an import tells of how is picked; nothing is picked where it tells nothing."""
    return plan.get("picking", {"pickers": {}, "inspections": {}, "picked": []})


def asked_for(choice: Choice) -> dict[str, Any]:
    """What a part of the control file asks for, without what it leaves as it is."""
    return choice.model_dump(exclude_none=True)


def decided() -> list[dict[str, Any]]:
    """All decisions so far, in order."""
    return list(layout.read_json(layout.PICKERS, []))


def latest_wish() -> dict[str, Any]:
    """What was asked for at the last decision."""
    known = decided()
    return dict(known[-1]["wanted"]) if known else AS_CONFIG


def changes_of(choice: Choice, picking: Picking, source: str) -> dict[str, dict[str, Any]]:
    """By job what changes in it: type, settings, folders by slot. source: folder with templates or a model to pick with, or nothing.

    Raises InputError with one sentence when the choice does not fit to the jobs.
    """
    limits = {name: getattr(choice, name) for name in LIMIT_KEYS if getattr(choice, name) is not None}
    if not picking["pickers"]:
        raise InputError("picker: no job of the config picks batch by batch")
    if limits and not picking["inspections"] and not all(settings["type"] == FUSED for settings in picking["pickers"].values()):
        raise InputError(f"picker.{next(iter(limits))}: no {INSPECTION} of the config sets limits between picker and extraction")
    changes = {job: _change(job, settings, choice, source, limits) for job, settings in picking["pickers"].items()}
    went = any(changes[job]["type"] == TOPAZ != settings["type"] for job, settings in picking["pickers"].items())
    judged = dict.fromkeys(LIMIT_KEYS) if went else limits
    return changes | {job: {"type": INSPECTION, "settings": judged, "folders": {}} for job in picking["inspections"]}


def kind_of(settings: Mapping[str, Any], choice: Choice) -> str:
    """blob_picker, template_picker or topaz_picker: what a job is to pick with."""
    if choice.type in KEYS:
        return str(choice.type)
    if settings["type"] == FUSED:
        return "template_picker" if settings.get("templates") else "blob_picker"
    return str(settings["type"])


def own_settings(settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Settings that the config gives to one kind of picker, by their own names; none that are left out for another kind."""
    if settings["type"] == FUSED:
        prefix = PREFIX[kind]
        return {name.removeprefix(prefix): value for name, value in settings.items() if name.startswith(prefix)}
    return {name: value for name, value in settings.items() if name in KEYS[kind]} if settings["type"] == kind else {}


def _change(job: str, settings: Mapping[str, Any], choice: Choice, source: str, limits: Mapping[str, Any]) -> dict[str, Any]:
    kind = kind_of(settings, choice)
    given = _own_keys(job, settings, kind, choice, limits)
    own = _complete(job, settings, kind, own_settings(settings, kind) | given, bool(source))
    made = {name: own[name] for name in own if name in given or own_settings(settings, kind).get(name) != own[name]}
    made.pop("templates", None)
    if kind == TOPAZ and "model" in given:
        made |= {"model": None} if source else {"trained": None}
    folders = {SLOTS[kind]: source} if kind in SLOTS and source else {}
    if settings["type"] != FUSED:
        return {"type": kind, "settings": made, "folders": folders}
    without = {"templates": None} if kind == "blob_picker" else {}
    prefixed = {f"{PREFIX[kind]}{name}": value for name, value in made.items()} | {f"limit_{name}": value for name, value in limits.items()}
    return {"type": FUSED, "settings": prefixed | without, "folders": folders}


def _own_keys(job: str, settings: Mapping[str, Any], kind: str, choice: Choice, limits: Mapping[str, Any]) -> dict[str, Any]:
    """What a choice says of a picker; raises InputError when the picker has no such key, or the job no such picker."""
    if kind == TOPAZ and settings["type"] == FUSED:
        raise InputError(
            f"picker.type: {job} picks in one job with all else, by blobs or templates; Topaz needs jobs of its own in the config"
        )
    if kind == TOPAZ and limits:
        raise InputError(
            f"picker.{next(iter(limits))}: limits are on correlation and power, which Topaz does not tell; give it a threshold"
        )
    given = {name: value for name, value in asked_for(choice).items() if any(name in keys for keys in KEYS.values())}
    wrong = next((name for name in given if name not in KEYS[kind]), None)
    if wrong:
        raise InputError(f"picker.{wrong}: {kind} has none, and {job} picks by it{hint_at(wrong, KEYS[kind])}")
    return given


def _complete(job: str, settings: Mapping[str, Any], kind: str, own: dict[str, Any], has_source: bool) -> dict[str, Any]:
    """Settings of a picker, complete; raises InputError when something is missing or contradicts."""
    if kind != "blob_picker":
        if kind != TOPAZ and not (has_source or settings.get("templates")):
            raise InputError(f"picker.templates: {job} needs templates, such as `latest` or a round of a select_2d, `keep/3`")
        largest = settings.get("diameter") or settings.get("max_diameter") or settings.get("blob_max_diameter")
        if own.get("diameter") is None and largest is None:
            raise InputError(f"picker.diameter: is missing; {job} needs the diameter of the {WIDE[kind]} in Å")
        return own | {"diameter": own.get("diameter") or largest}
    low, high = own.get("min_diameter"), own.get("max_diameter")
    if (low is None or high is None) and not settings.get("blobs"):
        raise InputError(f"picker: {job} needs min_diameter and max_diameter in Å to pick blobs")
    if low is not None and high is not None and low > high:
        raise InputError(f"picker.max_diameter: {high:g} Å is smaller than the smallest diameter of {job}, {low:g} Å")
    if not any(own.get(shape, shape == "circle") for shape in ("circle", "ellipse", "ring")):
        raise InputError("picker: one of circle, ellipse and ring must be true")
    return own


def source_of(choice: Choice, rounds: Rounds) -> str:
    """Folder of the model or the templates that a choice names, or nothing; raises InputError when there are no such templates or model."""
    return model_of(choice.model) or templates_of(choice.templates, rounds)


def model_of(name: str | None) -> str:
    """Folder of a trained model; nothing for a file and for names that Topaz knows. Raises InputError when there is no such folder or file."""
    folders = [Path("results", name), Path(name)] if name else []
    found = next((folder for folder in folders if all((folder / file).is_file() for file in MODEL_FILES)), None)
    if name and found is None and not Path(name).is_file() and ("/" in name or name.endswith(".sav")):
        raise InputError(f"picker.model: there is no model in {name}{hint_at(name, trained_models())}")
    return str(found) if found else ""


def trained_models() -> list[str]:
    """Jobs of the run that trained a model."""
    found = Path("results").glob(f"*/{MODEL_FILES[0]}")
    return sorted(path.parent.name for path in found if path.with_name(MODEL_FILES[1]).is_file())


def templates_of(name: str | None, rounds: Rounds) -> str:
    """Folder of the templates that a choice names, or nothing; raises InputError when there are none."""
    if name is None:
        return ""
    selections = {job: entries for job, entries in rounds.items() if entries and entries[-1]["role"] == "select"}
    job, _, number = name.partition("/")
    if name == "latest":
        done = [(entry["finished"], job, entry["number"]) for job, entries in selections.items() if (entry := last_done(entries))]
        if not done:
            raise InputError("picker.templates: there is no selection of 2D classes yet")
        return str(layout.round_folder(max(done)[1], round_name(max(done)[2])))
    folder = layout.round_folder(job, round_name(int(number))) if number.isdigit() and job in selections else Path(name)
    if not (folder / "classes.star").is_file():
        known = [f"{job}/{entry['number']}" for job, entries in selections.items() for entry in entries if entry["state"] == "done"]
        raise InputError(f"picker.templates: there are no classes in {folder}{hint_at(name, [*known, 'latest'])}")
    return str(folder)


def told_trials() -> list[dict[str, Any]]:
    """What the last pickers tried on one exposure told, the latest first, for people."""
    numbers = sorted((int(path.name) for path in layout.trial_folder(0).parent.glob("[0-9]*")), reverse=True)
    return [_told(number) for number in numbers[:SHOWN_TRIALS]]


def _told(number: int) -> dict[str, Any]:
    folder, known = layout.trial_folder(number), {"test": number, "folder": str(layout.trial_folder(number))}
    if layout.failed_trial_file(number).exists():
        return known | {"refused": f"it died; logs/live/test_{number}.log tells more"}
    names = ("exposure", "found", "kept", "limits", "refused", "pictures")
    return known | {name: value for name, value in layout.read_json(folder / "result.json", {}).items() if name in names}


def write_decision(
    wish: Mapping[str, Any], jobs: Mapping[str, Any], first: Mapping[str, str], source: str, by: str, reason: str, now: float
) -> dict[str, Any]:
    """Put down a decision, with a copy of its templates or its model, and return it. first: batch of each import from which on it counts."""
    known = decided()
    number = len(known) + 1
    keep = keep_model if source and (Path(source) / MODEL_FILES[0]).exists() else keep_templates
    kept = keep(Path(source), layout.PICKERS.with_suffix("") / str(number)) if source else ""
    moved = {job: change | {"folders": dict.fromkeys(change["folders"], kept)} for job, change in jobs.items()}
    entry = {
        "number": number,
        "time": round(now, 3),
        "by": by,
        "reason": reason,
        "wanted": dict(wish),
        "from": source,
        "first": dict(first),
        "jobs": moved,
    }
    write_json(layout.PICKERS, [*known, entry])
    return entry


def keep_templates(source: Path, target: Path) -> str:
    """Copy classes with their images, so that later rounds may go; the folder of the copy."""
    from firn.formats.tables import read_table, write_table  # slow to import, and seldom needed

    table = read_table(source / "classes.star", "classes", needs=("class_image",))
    parts = [str(name).partition("@") for name in table["class_image"]]
    stacks: Sequence[str] = list(dict.fromkeys(path for _, _, path in parts))
    copies = {path: target / (f"classes{number or ''}.mrcs") for number, path in enumerate(stacks)}
    target.mkdir(parents=True, exist_ok=True)
    for path, copy in copies.items():
        shutil.copyfile(path, copy)
    write_table(target / "classes.star", table.assign(class_image=[f"{number}@{copies[path]}" for number, _, path in parts]), "classes")
    return _with_record(source, target)


def keep_model(source: Path, target: Path) -> str:
    """Copy a model, so that the job that trained it may run again; the folder of the copy."""
    target.mkdir(parents=True, exist_ok=True)
    for file in MODEL_FILES:
        shutil.copyfile(source / file, target / file)
    return _with_record(source, target)


def _with_record(source: Path, target: Path) -> str:
    if (source / "job.json").exists():
        shutil.copyfile(source / "job.json", target / "job.json")
    return str(target)
