"""What people decide while a session runs: `live/control.yaml`, checked, with a default for everything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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


class Choice(Strict):
    """How to pick; null: as the config has it. Which keys a picker has: BLOB_KEYS, TEMPLATE_KEYS, TOPAZ_KEYS, and SHARED_KEYS of the first two."""

    type: Literal["blob_picker", "template_picker", "topaz_picker"] | None = None
    """Which picker."""
    templates: str | None = None
    """What to pick with: `keep/3`, a round of a select_2d; `latest`, the last of them; or a folder with classes.star."""
    min_diameter: float | None = Field(default=None, gt=0)
    """Å. Smallest diameter of a blob."""
    max_diameter: float | None = Field(default=None, gt=0)
    """Å. Largest diameter of a blob."""
    circle: bool | None = None
    """Look for balls."""
    ellipse: bool | None = None
    """Look for ellipsoids."""
    ring: bool | None = None
    """Look for rings."""
    diameter: float | None = Field(default=None, gt=0)
    """Å. Diameter of the templates' mask, or of the particles that Topaz looks for; null: the largest of the blobs."""
    recentre: bool | None = None
    """Centre the templates."""
    model: str | None = None
    """What Topaz picks with: a job that trained a model, a file, or the name of a model that comes with Topaz."""
    threshold: float | None = None
    """Smallest score of a pick of Topaz."""
    downsampling: int | None = Field(default=None, ge=1, le=64)
    """Factor by which micrographs are made smaller for Topaz."""
    denoised: bool | None = None
    """Pick in denoised micrographs."""
    executable: str | None = None
    """Path of Topaz."""
    arguments: list[str] | None = None
    """Further arguments of Topaz."""
    low_pass: float | None = Field(default=None, gt=0)
    """Å. Resolution of micrographs and what is looked for."""
    separation: float | None = Field(default=None, gt=0)
    """Smallest distance between picks, in diameters."""
    angular_step: float | None = Field(default=None, gt=0, le=90)
    """Degrees between rotations."""
    edge: float | None = Field(default=None, ge=0)
    """Smallest distance from the edge, in diameters."""
    max_picks: int | None = Field(default=None, ge=1)
    """Picks per micrograph, best first."""
    use_ctf: bool | None = None
    """Filter by the CTF."""
    refuse_rims: bool | None = None
    """Refuse long lines and steps."""
    min_ncc: float | None = Field(default=None, ge=-1, le=1)
    """Smallest correlation; null here and in the config: a limit is found from the picks of each batch."""
    min_power: float | None = Field(default=None, ge=0)
    """Smallest local power."""
    max_power: float | None = Field(default=None, gt=0)
    """Largest local power."""

    @model_validator(mode="after")
    def _check(self) -> "Choice":
        for low, high in (("min_diameter", "max_diameter"), ("min_power", "max_power")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{low} ({least:g}) is larger than {high} ({most:g})")
        return self


SHARED_KEYS = ("low_pass", "separation", "angular_step", "edge", "max_picks", "use_ctf", "refuse_rims")
BLOB_KEYS = ("min_diameter", "max_diameter", "circle", "ellipse", "ring")
TEMPLATE_KEYS = ("diameter", "recentre")
TOPAZ_KEYS = ("diameter", "model", "threshold", "downsampling", "denoised", "executable", "arguments")
LIMIT_KEYS = ("min_ncc", "min_power", "max_power")


class Picker(Choice):
    """How exposures are picked from now on. `auto`: with templates, once the first good classes are there."""

    type: Literal["blob_picker", "template_picker", "topaz_picker", "auto"] | None = None  # type: ignore[assignment]
    """Which picker; auto: the config's, until a first selection of 2D classes gives templates."""
    scope: Literal["all", "future"] = "all"
    """all: exposures that are done are picked again, without motion and CTF; future: only batches cut from now on."""


class PickerTest(Choice):
    """Pick in one exposure only, beside the session."""

    exposure: str
    """Id, path, file name, or file name without ending of an exposure that is done."""


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
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    """Devices for preprocessing, or batches in work at once where there is no GPU; auto: as planned; null: as profile and lanes.yaml have it."""
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
    picker: Picker = Picker()
    """How exposures are picked, where not as in the config."""
    test: PickerTest | None = None
    """A picker to try on one exposure."""
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
        place = brief(".".join(map(str, fault["loc"])))
        raise InputError(f"{path}: {place}: {fault['msg']}, got {brief(repr(fault['input']))}{hint}") from error


def _known_key(place: Sequence[int | str]) -> str:
    """A hint at the key that may have been meant where there is none of that name."""
    parts: dict[Any, type[Strict]] = {(): Control, ("streams",): Streams, ("alarms",): Alarms, ("picker",): Picker, ("test",): PickerTest}
    model = parts.get(tuple(place[:-1]), Limits)
    return hint_at(str(place[-1]), model.model_fields)


def _said(value: Any) -> Any:
    """A part of the control file without what it leaves open."""
    return {key: entry for key, entry in value.items() if entry is not None} if isinstance(value, dict) else value


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """What differs between two contents, one entry per key; the reason is no decision of its own."""
    keys = [key for key in new if key != "reason" and old.get(key) != new[key]]
    return [{"what": key, "old": _said(old.get(key)), "new": _said(new[key]), "reason": new.get("reason", "")} for key in keys]


def _load(path: Path) -> dict[str, Any]:
    content = read_yaml(path, "what is decided of a session", LARGEST_BYTES)
    if content is not None and (not isinstance(content, dict) or not all(isinstance(key, str) for key in content)):
        raise InputError(f"{path}: expected lines of 'key: value', got a {type(content).__name__}")
    return content or {}
