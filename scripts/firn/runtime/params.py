"""The base of every job type's Params: fields with units, slots for inputs, and what the job offers to others."""

from typing import Any, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from firn.errors import InputError, brief

NOT_PARAMETERS = ("type", "revision", "seed")
Lane = Literal["preprocess", "reconstruct", "auxiliary", "cpu"]
Kind = Literal["movies", "exposures", "picks", "particles", "templates", "volume", "mask", "truth", "blobs", "model"]


def slot(kind: Kind, *, optional: bool = False, many: bool = False) -> Any:
    """A field that takes `job` or `job.output` of the kind; with many, a list of them."""
    extra: dict[str, Any] = {"slot": kind, "many": many, "optional": optional}
    return Field(None, json_schema_extra=extra) if optional else Field(json_schema_extra=extra)


def slot_kind(field: FieldInfo) -> Kind | None:
    """What a field takes from other jobs; None for a parameter."""
    extra = field.json_schema_extra
    return cast(Kind, extra["slot"]) if isinstance(extra, dict) and "slot" in extra else None


class JobParams(BaseModel):
    """Parameters of one job. A subclass's docstring says what the job does; the string under a field is its help."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, frozen=True)

    stage: ClassVar[str]
    """Rule file and report category the type belongs to."""
    lane: ClassVar[Lane] = "cpu"
    scatter: ClassVar[bool] = False
    """One job per batch of exposures, gathered afterwards."""
    reads_images: ClassVar[bool] = True
    """Whether the images of particles are read, or their table alone."""
    ranked: ClassVar[bool] = True
    """Whether each device but the first gets a process that runs the job too; not where another program takes them all."""
    gpu_gb: ClassVar[int | None] = 0
    """GB of GPU memory that a job should have at least; None = as much as movies of its camera need."""
    revision: ClassVar[int] = 1
    """Raised when the numbers the job makes change, so that older results are made again."""
    offers: ClassVar[tuple[Kind, ...]] = ()
    """Kinds of output lying in the job's own folder."""
    groups: ClassVar[dict[str, tuple[Kind, ...]]] = {}
    """Named sub-folders and the kinds in them, such as `rejected`; `class_*` stands for class_1 ... class_K."""
    best_group: ClassVar[str | None] = None
    """Sub-folder meant when a slot names the job alone and the kind does not lie in the job's own folder."""


def validated(params_class: type[JobParams], settings: dict[str, Any]) -> Any:
    """Parameters; rules between several of them are checked here, so their breach is the user's error too, an InputError."""
    try:
        return params_class(**{key: value for key, value in settings.items() if key not in NOT_PARAMETERS})
    except ValidationError as error:
        raise InputError(fault_sentence(error)) from error


def fault_sentence(error: ValidationError, prefix: str = "") -> str:
    """What is wrong with parameters, in one sentence; prefix is put before the names of parameters."""
    faults = [(brief(".".join(map(str, fault["loc"]))), fault["msg"].removeprefix("Value error, ")) for fault in error.errors()]
    return "; ".join(f"{prefix}{place}: {message}" if place else message for place, message in faults)
