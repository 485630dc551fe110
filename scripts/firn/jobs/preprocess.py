"""Take movies to particles in one pass: each exposure's motion, CTF, picks and images, with nothing read twice."""

from typing import Any, ClassVar

from pydantic import Field, ValidationError, create_model, model_validator

from firn.families.fused import STEPS, Steps, Worker, step_fields
from firn.families.motion import NEEDS
from firn.formats.tables import read_table
from firn.runtime.ahead import Behind, made_ahead
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, fault_sentence, slot


class _Base(JobParams):
    """Take movies to particles in one pass, on one device: motion, CTF, picks, limits on picks, particle images.

    The steps are those of patch_motion, patch_ctf, blob_picker or template_picker, inspect_picks and extract_particles, with their
    parameters under a prefix, and give the same numbers. Limits on picks that are not given are found batch by batch.
    """

    stage: ClassVar[str] = "preprocess"
    lane: ClassVar[Lane] = "preprocess"
    gpu_gb: ClassVar[int | None] = None
    scatter: ClassVar[bool] = True
    revision: ClassVar[int] = 6
    offers: ClassVar[tuple[Kind, ...]] = ("exposures", "picks", "particles")

    exposures: str = slot("exposures")
    """Movies to process."""
    templates: str | list[str] | None = slot("templates", optional=True, many=True)
    """Templates to pick with; blobs are picked when not given."""
    local_motion: bool = True
    """Also correct motion that differs over the image."""
    thumbnail_px: int = Field(512, ge=0, le=4096)
    """Longer side of the picture kept of each micrograph; 0 for none."""

    @model_validator(mode="after")
    def _check(self) -> "_Base":
        try:
            Steps.of(self)
        except ValidationError as error:
            raise ValueError(fault_sentence(error)) from error
        return self


fields: dict[str, Any] = {name: field for step in STEPS for name, field in step_fields(step).items()}
Params = create_model("Params", __base__=_Base, __doc__=_Base.__doc__, __module__=__name__, **fields)


def run(job: Job[Any]) -> None:
    """Write exposures.star, picks.star, particles.star, micrographs, stacks and thumbnails of the batch, and failed.star."""
    table = read_table(job.input("exposures", "exposures.star"), "exposures", needs=NEEDS)
    with Behind() as behind:
        worker = Worker(job, behind)
        for row, counts in made_ahead(job.over(table.to_dict("records"), "exposures"), worker.read):
            worker.process(row, counts)
        worker.extract()
    worker.finish(table)
