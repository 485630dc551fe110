"""A picker tried on one exposure, beside the session: planned in `live/tests/<n>/plan.json`, told in `result.json` there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firn.errors import InputError, hint_at
from firn.formats.ids import exposure_id
from firn.live import layout
from firn.live.accept import names_of
from firn.live.control import PickerTest
from firn.live.pickers import FUSED, PREFIX, SLOTS, TOPAZ, asked_for, changes_of, kind_of, own_settings, picking_of, source_of
from firn.live.session import Session
from firn.runtime.atomic import write_json

SHARED = ("angular_step", "edge", "max_picks", "use_ctf", "refuse_rims")
"""Parameters with the same meaning in the pickers by blobs and by templates."""


LATEST = 200
"""Exposures among which a name that may have been meant is looked for."""


def tend_trials(session: Session, now: float) -> bool:
    """Plan the test that is asked for, and take up those that are over; whether Snakemake has something new to do."""
    trials = session.memory.setdefault("trials", [])
    for number in [number for number in trials if is_over(number)]:
        trials.remove(number)
    test = session.control.test
    wish = asked_for(test) if test else None
    if wish == session.memory.get("tested"):
        return False
    session.memory["tested"] = wish
    if test is None:
        return False
    try:
        plan = trial_plan(session, test)
    except InputError as error:
        session.control_fault = f"{layout.CONTROL}: {error}"
        return False
    number = 1 + max((int(path.name) for path in layout.trial_folder(0).parent.glob("[0-9]*")), default=0)
    write_json(layout.trial_folder(number) / "plan.json", plan | {"number": number, "asked": wish, "planned": round(now, 3)})
    trials.append(number)
    return True


def is_over(number: int) -> bool:
    """Whether a test has left its result, or died."""
    return (layout.trial_folder(number) / "result.json").exists() or layout.failed_trial_file(number).exists()


def trial_plan(session: Session, test: PickerTest) -> dict[str, Any]:
    """Exposure, folder of its tables, and the settings to pick and to judge with. Raises InputError when the test cannot be made."""
    root, batch, exposure = _find(session, test.exposure)
    plan = session.plan[root]
    if not picking_of(plan)["pickers"]:
        raise InputError("test: no job of the config picks batch by batch")
    job, settings = next(iter(picking_of(plan)["pickers"].items()))
    change = changes_of(test, {**picking_of(plan), "pickers": {job: settings}}, source_of(test, session.rounds))[job]
    return {
        "exposure": exposure,
        "exposures": _tables(plan, job, batch),
        "picker": _picker(settings, test, change),
        "limits": _limits(picking_of(plan), settings, test),
        "folders": _folders(settings, kind_of(settings, test), change),
    }


def _find(session: Session, name: str) -> tuple[str, str, str]:
    """(import, batch, id) of a finished exposure."""
    movies = [(root, path, taken[2]) for root, ledger in session.ledgers.items() for path, taken in ledger.taken.items()]
    named = next((movie for movie in movies if name in names_of(exposure_id(movie[1]), movie[1])), None)
    if named is None:
        hint = hint_at(name, [Path(path).stem for _, path, _ in movies[-LATEST:]]) if movies else ""
        raise InputError(f"test.exposure: no exposure is called {name!r}{hint}")
    root, path, batch = named
    outcome = next((one for one in layout.read_json(layout.outcome_file(root, batch), []) if one["movie"] == path), None)
    if outcome is None or outcome["code"]:
        why = f"failed: {outcome['reason']}" if outcome else "is not done yet"
        raise InputError(f"test.exposure: {name} {why}")
    return root, batch, str(outcome["exposure_id"])


def _tables(plan: Mapping[str, Any], job: str, batch: str) -> str:
    """Folder with the exposures that a picker reads, micrographs and CTF included."""
    makers = [job] if picking_of(plan)["pickers"][job]["type"] == FUSED else plan["jobs"][job]
    folders = [layout.result_file(maker, batch).parent for maker in makers]
    return str(next(folder for folder in folders if (folder / "exposures.star").exists()))


def _picker(settings: Mapping[str, Any], test: PickerTest, change: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the picker on its own."""
    kind = kind_of(settings, test)
    prefix = PREFIX[kind] if settings["type"] == FUSED else ""
    own = {name: settings[name] for name in SHARED if not prefix and kind != TOPAZ and name in settings} | own_settings(settings, kind)
    given = {name.removeprefix(prefix): value for name, value in change["settings"].items() if name.startswith(prefix)}
    merged = {name: value for name, value in (own | given).items() if value is not None and not name.startswith("limit_")}
    return merged | {"type": kind, "revision": 0, "seed": settings["seed"], "plots": 0}


def _limits(picking: Mapping[str, Any], settings: Mapping[str, Any], test: PickerTest) -> dict[str, Any]:
    if kind_of(settings, test) == TOPAZ:
        return {}
    inspections = list(picking["inspections"].values())
    names = ("min_ncc", "min_power", "max_power")
    if settings["type"] == FUSED:
        own = {name: settings.get(f"limit_{name}") for name in names}
    else:
        own = {name: inspections[0].get(name) for name in names} if inspections else {}
    given = {name: getattr(test, name) for name in names if getattr(test, name) is not None}
    return {name: value for name, value in (own | given).items() if value is not None}


def _folders(settings: Mapping[str, Any], kind: str, change: Mapping[str, Any]) -> dict[str, str]:
    """By slot the folder to pick with: the one that is proposed, or else that of the job that the config names."""
    slot = SLOTS.get(kind)
    name = settings.get(slot or "")
    named = name[0] if isinstance(name, list) and name else name
    left = change["settings"].get(slot, named) if slot else None
    own = {slot: f"results/{str(left).partition('.')[0]}"} if slot and left else {}
    return own | dict(change["folders"])
