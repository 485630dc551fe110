"""What the dashboard may write: known keys of `live/control.yaml`, and decisions files for curation and 2D selection.

A file of a human is edited, not written anew: its comments and other keys stay. Every change passes the check that its reader makes.
"""

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from firn.dashboard.classes import find_result, table_of
from firn.dashboard.exposures import HAND_FILE, Table
from firn.dashboard.kept import stamp
from firn.dashboard.places import RequestError, is_inside
from firn.errors import InputError
from firn.live import layout
from firn.live.control import Control, read_control
from firn.live.exposures import decisions_text
from firn.live.points import ATTRIBUTES
from firn.runtime.atomic import write_text

VERDICTS = ("accept", "reject", "none")
STATES = ("run", "pause")
MOST_EXPOSURES = 2000
LONGEST_REASON = 300
writing = threading.Lock()


def set_limits(body: Mapping[str, Any]) -> None:
    """{column, min, max, reason}: the limits of one attribute, in the units of live/exposures.csv; null for none."""
    column = body.get("column")
    if column not in [attribute.column for attribute in ATTRIBUTES]:
        raise RequestError(400, "There is no such attribute.")
    limits = {side: body[side] for side in ("min", "max") if body.get(side) is not None}
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in limits.values()):
        raise RequestError(400, "A limit is a number.")
    if len(limits) == 2 and limits["min"] > limits["max"]:
        raise RequestError(400, "The least value is above the greatest.")
    with writing:
        thresholds = {name: given.model_dump(exclude_none=True) for name, given in current_control().thresholds.items()}
        told = ", ".join(f"{side} {value:g}" for side, value in limits.items()) or "no limit"
        edit_control({"thresholds": thresholds | {str(column): limits}}, reason_of(body, f"{column}: {told}"))


def set_state(body: Mapping[str, Any]) -> None:
    """{state, reason}: run or pause."""
    if body.get("state") not in STATES:
        raise RequestError(400, "The state is run or pause.")
    with writing:
        edit_control({"state": body["state"]}, reason_of(body, str(body["state"])))


def judge_exposures(body: Mapping[str, Any], table: Table) -> None:
    """{exposures, verdict, reason}: accept or reject exposures by id, or take back what a hand decided (none)."""
    ids, verdict = body.get("exposures"), body.get("verdict")
    if verdict not in VERDICTS or not isinstance(ids, list) or not 0 < len(ids) <= MOST_EXPOSURES:
        raise RequestError(400, f"Give 1 to {MOST_EXPOSURES} exposures, and accept, reject or none.")
    if not all(isinstance(one, str) and one in table.rows for one in ids):
        raise RequestError(400, "There is no such exposure.")
    chosen = set(ids)
    with writing:
        if not layout.EXPOSURES.exists():
            kept = {name: said for name, said in read_hand_file().items() if table.called.get(name, name) not in chosen}
            write_file(HAND_FILE, decisions_text(kept | ({} if verdict == "none" else dict.fromkeys(ids, str(verdict)))))
            return
        control = current_control()
        lists = {
            key: [name for name in getattr(control, key) if table.called.get(name, name) not in chosen] for key in ("reject", "accept")
        }
        if verdict != "none":
            lists[str(verdict)] += ids
        changed = {key: names for key, names in lists.items() if names != getattr(control, key)}
        if changed:
            edit_control(changed, reason_of(body, f"{verdict} {len(ids)} exposure{'s' if len(ids) > 1 else ''}"))


def hand_verdicts(table: Table) -> dict[str, str]:
    """What hands decided so far, by exposure id."""
    if layout.EXPOSURES.exists():
        control = current_control()
        named = dict.fromkeys(control.accept, "accept") | dict.fromkeys(control.reject, "reject")
    else:
        named = read_hand_file()
    return {table.called[name]: verdict for name, verdict in named.items() if name in table.called}


def choose_classes(body: Mapping[str, Any]) -> dict[str, str]:
    """{folder, select, comment}: keep these classes and no others; returns the file and how a config reads it."""
    result = find_result(str(body.get("folder", "")))
    numbers = {entry["number"] for entry in table_of(result)["classes"]}
    select = body.get("select")
    if not isinstance(select, list) or not all(type(one) is int and one in numbers for one in select):
        raise RequestError(400, "Give the numbers of classes that there are.")
    content = {"select": sorted(set(select)), "author": "dashboard", "comment": reason_of({"reason": body.get("comment", "")}, "chosen")}
    with writing:
        write_file(result.hand_file, dumped(content) + "\n")
    return {"file": result.hand_file.as_posix()}


def read_hand_file() -> dict[str, str]:
    """Hand decisions where no live session is."""
    if not HAND_FILE.exists():
        return {}
    from firn.formats.decisions import read_decisions  # pandas, which takes a second to import

    return read_decisions(HAND_FILE)


def current_control() -> Control:
    """The control file as it is; RequestError (403) where it leads out of the run folder, InputError where it has a fault."""
    if layout.CONTROL.exists() and not is_inside(layout.CONTROL.as_posix()):
        raise RequestError(403, f"{layout.CONTROL} leads out of the run folder; edit it by hand.")
    return read_control(layout.CONTROL)


def reason_of(body: Mapping[str, Any], otherwise: str) -> str:
    """Why, as a person gave it, or else what was done; with the time."""
    given = body.get("reason") or otherwise
    if not isinstance(given, str) or len(given) > LONGEST_REASON or not given.isprintable():
        raise RequestError(400, f"A reason is one line of at most {LONGEST_REASON} characters.")
    return f"{given} (dashboard, {time.strftime('%Y-%m-%d %H:%M:%S')})"


def edit_control(changes: Mapping[str, Any], reason: str) -> None:
    """Change keys of the control file; its other lines stay as a human wrote them."""
    seen = stamp(layout.CONTROL)
    current_control()
    text = layout.CONTROL.read_text(encoding="utf-8") if seen else ""
    before = yaml.safe_load(text) or {}
    wanted = {**before, **changes, "reason": reason}
    try:
        Control(**wanted)
    except ValidationError as error:
        raise RequestError(400, faults_of(error)) from error
    edited = edit_keys(text, {**changes, "reason": reason})
    if stamp(layout.CONTROL) != seen:
        raise RequestError(409, f"{layout.CONTROL} was changed just now by someone else; try again.")
    write_file(layout.CONTROL, edited)


def faults_of(error: ValidationError) -> str:
    """What the check of the control file says, as one sentence."""
    return "; ".join(": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"]))) for fault in error.errors())


def edit_keys(text: str, changes: Mapping[str, Any]) -> str:
    """YAML text with some top-level keys replaced or added; what cannot be edited line by line is written anew."""
    wanted = {**(yaml.safe_load(text) or {}), **changes}
    edited = text
    try:
        for key, value in changes.items():
            edited = _with_key(edited, key, dumped({key: value}))
        same = yaml.safe_load(edited) == wanted
    except yaml.YAMLError:
        same = False
    return edited if same else dumped(wanted) + "\n"


def dumped(content: Mapping[str, Any]) -> str:
    """YAML with a line for each key; collections of scalars stand within one line."""
    style = None if any(isinstance(value, (dict, list)) for value in content.values()) else False
    return yaml.safe_dump(dict(content), default_flow_style=style, allow_unicode=True, width=100_000, sort_keys=False).strip()


def _with_key(text: str, key: str, line: str) -> str:
    place = _place(text, key)
    if place is None:
        return text + ("" if text.endswith("\n") or not text else "\n") + line + "\n"
    start, end = place
    return text[:start] + line + text[start + len(text[start:end].rstrip()) :]


def _place(text: str, key: str) -> tuple[int, int] | None:
    """Where a top-level key and its value stand in a text."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return None
    found = next((pair for pair in root.value if pair[0].value == key), None)
    return (found[0].start_mark.index, max(found[0].end_mark.index + 1, _end(found[1]))) if found else None


def _end(node: yaml.Node) -> int:
    """The end of a value; a block ends with its last line, not with the comments after it."""
    if isinstance(node, yaml.ScalarNode) or getattr(node, "flow_style", True) or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def write_file(path: Path, text: str) -> None:
    """Write a file of the run folder whole; nothing is written through a link that leads out of it."""
    root = Path.cwd().resolve()
    place = Path(os.path.realpath(path))
    if path.is_absolute() or not place.is_relative_to(root) or place.suffix not in (".yaml", ".yml"):
        raise InputError(f"{path}: is not a YAML file of the run folder; edit it by hand")
    write_text(place, text)
