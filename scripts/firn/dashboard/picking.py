"""Decisions about picking: limits on picks, another picker, and a picker tried on one exposure.

In a session they are the keys `picker` and `test` of `live/control.yaml`; without one, limits are the decisions file of the job that inspects the picks.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from firn.dashboard import decide
from firn.dashboard.exposures import Table
from firn.dashboard.picks import find_source, sources
from firn.dashboard.places import RequestError, is_inside
from firn.dashboard.server import Answer, as_json
from firn.errors import InputError
from firn.formats.yaml_text import read_yaml
from firn.live import layout
from firn.live.control import LIMIT_KEYS, SHARED_KEYS, Picker
from firn.live.pickers import TOPAZ, decided, told_trials, trained_models

ASKED_KEYS = ("type", "templates", "diameter", "min_diameter", "max_diameter", "circle", "ellipse", "ring", "model", "threshold")
"""What the form asks for beside limits."""
NUMBERS = (*LIMIT_KEYS, "diameter", "min_diameter", "max_diameter", "threshold")
OF_TOPAZ = ("resnet16", "resnet8")
"""Models that come with Topaz."""
MOST_NAMES = 200
LATEST = "latest"


def tell(table: Table) -> Answer:
    """Jobs that pick, what is asked for in the control file and what the session says of it, rounds to take templates from, and tests."""
    live = is_live()
    session = layout.read_json(layout.SESSION, {}) if live else {}
    told: dict[str, Any] = {
        "sources": [{"job": one.job, "type": one.type, "limits": dict(one.limits), "decisions": one.decisions} for one in sources()],
        "live": live, "state": session.get("state", ""), "fault": session.get("alarms", {}).get("control", ""),
        "waiting": session.get("picking", {}).get("batches_to_pick_again", 0),
        "picker": {}, "test": None, "templates": template_rounds(), "models": [*trained_models(), *OF_TOPAZ], "tests": told_trials() if live else [],
        "names": [row["exposure_id"] for row in list(table.rows.values())[-MOST_NAMES:] if row["verdict"] != "failed"],
    }  # fmt: skip
    if not live:
        return as_json(told | {"saved": {one.job: _saved(one.decisions) for one in sources()}})
    try:
        control = decide.current_control()
    except InputError as error:
        return as_json(told | {"fault": str(error)})
    test = control.test.model_dump(exclude_none=True) if control.test else None
    return as_json(told | {"picker": _asked(control.picker), "test": test})


def is_live() -> bool:
    """Whether a session reads what is decided."""
    return layout.EXPOSURES.exists()


def limit_picks(body: Mapping[str, Any]) -> dict[str, str]:
    """{job, min_ncc, min_power, max_power, scope, reason}: limits on picks, null for one that is found from the picks; returns the file."""
    limits = _limits(body)
    told = ", ".join(f"{name} {value:g}" for name, value in limits.items()) or "limits found from the picks"
    reason = decide.reason_of(body, told)
    with decide.writing:
        if not is_live():
            return {"file": _write_decisions(str(body.get("job", "")), limits, reason)}
        former = _asked(decide.current_control().picker)
        kept = {name: value for name, value in former.items() if name not in (*LIMIT_KEYS, "scope")}
        if limits and former.get("type") == TOPAZ:
            raise RequestError(400, "Limits are on correlation and power, which Topaz does not tell; give its picks a threshold.")
        decide.edit_control({"picker": _scope(body, former) | _pinned(kept) | limits}, reason)
    return {"file": layout.CONTROL.as_posix()}


def switch_picker(body: Mapping[str, Any]) -> None:
    """{type, templates, diameters, shapes, limits, scope, reason}: how exposures are picked from now on; nothing given: as in the config."""
    _need_session()
    choice = _choice(body)
    told = ", ".join(f"{name} {value}" for name, value in choice.items()) or "picker as in the config"
    reason = decide.reason_of(body, f"picker: {told}")
    with decide.writing:
        former = _asked(decide.current_control().picker)
        kept = {name: value for name, value in former.items() if name in _lasting(choice)} if choice else {}
        decide.edit_control({"picker": _scope(body, former) | kept | choice}, reason)


def try_picker(body: Mapping[str, Any], table: Table) -> None:
    """{exposure, type, templates, diameters, shapes, limits}: a picker to try on one exposure that is done."""
    _need_session()
    exposure = body.get("exposure")
    row = table.rows.get(table.called.get(exposure, "")) if isinstance(exposure, str) else None
    if row is None or row["verdict"] == "failed":
        raise RequestError(400, "There is no exposure of that name that is done.")
    with decide.writing:
        control = decide.current_control()
        choice = _choice(body)
        kept = {name: value for name, value in _asked(control.picker).items() if name in _lasting(choice)}
        test = {"exposure": row["exposure_id"]} | kept | choice
        if control.test is not None and control.test.model_dump(exclude_none=True) == test:
            raise RequestError(400, "This was tried last; change something to try again.")
        decide.edit_control({"test": test}, decide.reason_of(body, f"test on {row['exposure_id']}"))


def template_rounds() -> list[str]:
    """Rounds of 2D selections whose classes are there, the newest first, as a control file names them."""
    found = [path for path in Path("results").glob("*/rounds/*/classes.star") if is_inside(path.as_posix())]
    selected = [path.parent for path in found if layout.read_json(path.parent / "job.json", {}).get("type") == "select_2d"]
    newest = sorted(selected, key=lambda folder: (-int(folder.name) if folder.name.isdigit() else 0, folder.as_posix()))
    return [f"{folder.parts[1]}/{int(folder.name)}" for folder in newest if folder.name.isdigit()]


def _asked(picker: Picker) -> dict[str, Any]:
    return picker.model_dump(exclude_none=True, exclude_unset=True)


def _limits(body: Mapping[str, Any]) -> dict[str, Any]:
    """Limits that are given, as the control file takes them; RequestError (400) with its sentence when it does not."""
    limits = {name: body[name] for name in LIMIT_KEYS if body.get(name) is not None}
    _check(limits)
    return limits


def _choice(body: Mapping[str, Any]) -> dict[str, Any]:
    choice = {name: body[name] for name in (*ASKED_KEYS, *LIMIT_KEYS) if body.get(name) not in (None, "")}
    _check(choice)
    if choice.get("templates", LATEST) not in (LATEST, *template_rounds()):
        raise RequestError(400, "There is no such round of a selection of 2D classes.")
    if "model" in choice and choice["model"] not in (*trained_models(), *OF_TOPAZ):
        raise RequestError(400, "There is no such model.")
    return choice


def _lasting(choice: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys of the control file that the form does not ask for, and that count for the picker chosen too."""
    return ("downsampling", "denoised", "executable", "arguments") if choice.get("type") == TOPAZ else SHARED_KEYS


def _check(choice: Mapping[str, Any]) -> None:
    if any(isinstance(choice.get(name), (str, bool)) for name in NUMBERS):
        raise RequestError(400, "A limit or a diameter is a number.")
    try:
        Picker(**choice)
    except ValidationError as error:
        raise RequestError(400, decide.faults_of(error)) from error


def _scope(body: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    scope = body.get("scope", former.get("scope"))
    if scope not in (None, "all", "future"):
        raise RequestError(400, "The scope is all or future.")
    return {"scope": scope} if scope == "future" else {}


def _pinned(kept: dict[str, Any]) -> dict[str, Any]:
    """What is asked for, with the templates that `latest` was at the last decision, so that other limits pick nothing again."""
    last = decided()[-1] if decided() else {"wanted": {}, "jobs": {}}
    folders = [folder for change in last["jobs"].values() for folder in change["folders"].values()]
    if kept.get("templates") != LATEST or last["wanted"].get("templates") != LATEST or not folders:
        return kept
    return kept | {"templates": folders[0]}


def _need_session() -> None:
    if not is_live():
        raise RequestError(400, "There is no live session in this run folder; change the picker in the config.")


def _write_decisions(job: str, limits: Mapping[str, Any], reason: str) -> str:
    """Write the file that the inspection of a job's picks reads; other keys of a human stay."""
    source = find_source(job)
    if not source.decisions:
        raise RequestError(400, f"No inspect_picks of this run sets limits on the picks of {job}.")
    path = Path(source.decisions)
    former = _saved(source.decisions)
    text = path.read_text(encoding="utf-8") if is_inside(source.decisions) else ""
    reasons = former.get("reasons") if isinstance(former.get("reasons"), dict) else {}
    told = {name: why for name, why in (reasons or {}).items() if name not in LIMIT_KEYS} | dict.fromkeys(limits, reason)
    changes = {**limits, "author": "dashboard", "reasons": told}
    gone = [name for name in LIMIT_KEYS if name in former and name not in limits]
    content = {name: value for name, value in former.items() if name not in gone} | changes
    decide.write_file(path, decide.dumped(content) + "\n" if gone else decide.edit_keys(text, changes))
    return path.as_posix()


def _saved(decisions: str) -> dict[str, Any]:
    """What a decisions file says; nothing where there is none to read."""
    if not decisions or not is_inside(decisions):
        return {}
    content = read_yaml(decisions, "decisions about picks")
    return dict(content) if isinstance(content, dict) else {}
