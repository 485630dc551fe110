"""What people decide while a session runs: `live/control.yaml`, checked, with a default for everything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from firn.errors import InputError, brief, hint_at
from firn.formats.yaml_text import read_yaml

LARGEST_BYTES = 2**16


class Strict(BaseModel):
    """Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Limits(Strict):
    """Least and greatest value of an attribute that is accepted."""

    min: float | None = None
    max: float | None = None


class Alarms(Strict):
    """When to raise an alarm."""

    no_new_min: float = Field(default=10, gt=0)
    """Minutes without a new file."""
    failure_percent: float = Field(default=5, gt=0, le=100)
    """Percent of the last 50 exposures that failed, if three or more did."""
    not_started_min: float = Field(default=15, gt=0)
    """Minutes that a batch may wait for its first job, as in the queue of a cluster."""
    disk_free_gb: float = Field(default=10, ge=0)
    """GB free on the run folder's disk, below which no new batch is started either."""
    disk_full_h: float = Field(default=6, ge=0)
    """Hours until the disk is full at the present rate."""


class Streams(Strict):
    """When 2D classes and a map are made again from all particles accepted so far; null: the session decides by itself."""

    enabled: bool = True
    """Whether rounds are planned."""
    first_2d: int | None = Field(default=None, ge=20)
    """Particles for the first 2D round; null: 20 per class."""
    every_2d: int | None = Field(default=None, ge=1)
    """Particles that came or went, for the next 2D round; null: as many again, at most two batches per class, at least a tenth."""
    first_3d: int | None = Field(default=None, ge=50)
    """Selected particles for the first map; null: 1000 over the order of the symmetry group, at least 100."""
    grow_3d: float = Field(default=20, gt=0)
    """Percent of selected particles that came or went, for the next round of the map."""


class Control(Strict):
    """All that can be changed while the session runs."""

    state: Literal["run", "pause", "stop", "end"] = "run"
    """run; pause (finish what is cut, cut nothing); stop (finish what runs, then leave); end (take what is there, then finish)."""
    reason: str = ""
    """Why, for the record."""
    settle_s: float = Field(default=10, ge=0)
    """Seconds for which a file's size and time must stay the same."""
    give_up_s: float = Field(default=600, gt=0)
    """Seconds after which a file that stays the same and is still not a whole movie is refused."""
    max_wait_s: float = Field(default=60, ge=0)
    """Seconds after which a batch starts even when it is not full."""
    poll_s: float = Field(default=0.5, gt=0)
    """Seconds between looks at the folders."""
    open_batches: int = Field(default=8, ge=1)
    """Batches in work at once."""
    quiet_min: float | None = Field(default=120, gt=0)
    """Minutes without a new file after which the session ends by itself; null: only by the end mark."""
    priority: Literal["oldest", "latest", "alternate"] = "oldest"
    """Which movies go first when they wait."""
    thresholds: dict[str, Limits] = {}
    """Limits on any column of the exposures, such as `ctf_fit_resolution: {max: 6}`; they replace those of the config's curation."""
    reject: list[str] = []
    """Exposures rejected by hand: id, path, file name, or file name without ending."""
    accept: list[str] = []
    """Exposures accepted by hand whatever the thresholds say."""
    streams: Streams = Streams()
    """2D classes and a map while movies come."""
    alarms: Alarms = Alarms()
    """When to raise an alarm."""


def read_control(path: Path) -> Control:
    """The control file, or the defaults where there is none; raises InputError with one sentence when it has a fault."""
    try:
        content = _load(path) if path.exists() else {}
        return Control(**content)
    except ValidationError as error:
        fault = error.errors()[0]
        hint = _known_key(fault["loc"]) if fault["type"] == "extra_forbidden" else ""
        raise InputError(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}, got {brief(repr(fault['input']))}{hint}") from error


def _known_key(place: Sequence[int | str]) -> str:
    """A hint at the key that may have been meant where there is none of that name."""
    parts: dict[Any, type[Strict]] = {(): Control, ("streams",): Streams, ("alarms",): Alarms}
    model = parts.get(tuple(place[:-1]), Limits)
    return hint_at(str(place[-1]), model.model_fields)


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """What differs between two contents, one entry per key; the reason is no decision of its own."""
    keys = [key for key in new if key != "reason" and old.get(key) != new[key]]
    return [{"what": key, "old": old.get(key), "new": new[key], "reason": new.get("reason", "")} for key in keys]


def _load(path: Path) -> dict[str, Any]:
    content = read_yaml(path, "what is decided of a session", LARGEST_BYTES)
    if content is not None and (not isinstance(content, dict) or not all(isinstance(key, str) for key in content)):
        raise InputError(f"{path}: expected lines of 'key: value', got a {type(content).__name__}")
    return content or {}
