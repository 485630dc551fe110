"""Continue a 2D classification with more particles: from the classes of the round before, a few passes over all of them."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.classification import ClassificationParams, Inputs, read_inputs, write_results
from firn.formats.mrc import read_mrc
from firn.formats.tables import read_table
from firn.kernels.fourier import resize_images
from firn.refine.class2d import classify
from firn.refine.class2d_start import continued_state
from firn.refine.class2d_state import Plan
from firn.runtime.job import Job
from firn.runtime.params import slot


class Params(ClassificationParams):
    """Classify in 2D, going on from the classes of an earlier round with all particles there are now; without one, an ordinary classification.

    Classes that are missing or empty are made by splitting the fullest.
    """

    revision: ClassVar[int] = 5

    templates: str | None = slot("templates", optional=True)
    """Classes to go on from: the round before, or any classes of the same particles' box."""
    passes: int = Field(3, ge=2)
    """Passes over all particles at most when going on from earlier classes; the last one makes what is written."""


def run(job: Job[Params]) -> None:
    """Classify, and write particles.star, classes.star, classes.mrcs and the figures; goes on where a run cut short was."""
    inputs, params, kept, start = read_inputs(job), job.params, job.checkpoint.load(), None
    if job.has("templates"):
        references, radius = _former_classes(job, inputs)
        inputs = replace(inputs, plan=_continued(inputs.plan, params.passes, len(inputs.table)))
        if kept is None:
            start = continued_state(inputs.particles, inputs.plan, job.generator("noise"), references, radius)
    state, assignment = classify(inputs.particles, inputs.plan, job.generator(), job.over, start, job.checkpoint.save, kept)
    write_results(job, inputs, state, assignment)


def _continued(plan: Plan, passes: int, count: int) -> Plan:
    """A plan of full passes at full certainty."""
    return replace(plan, iterations=passes - 1, final_iterations=1, batch_size=count, uncertainty=1.0)


def _former_classes(job: Job[Params], inputs: Inputs) -> tuple[Float[Tensor, "c n n"], int]:
    """(earlier classes that are not empty, largest first, in the engine's side and grey values; the Fourier radius that they have reached)."""
    plan, box = inputs.plan, inputs.plan.box_px * inputs.pixel_size
    where = job.input("templates", "classes.mrcs")
    images, pixel_size = read_mrc(where)
    if images.shape[-1] != plan.box_px or abs(pixel_size - inputs.pixel_size) > 0.002 * inputs.pixel_size:
        raise InputError(
            f"{where}: has classes of {images.shape[-1]} pixels of {pixel_size:g} Å, but the particles have {plan.box_px} of "
            f"{inputs.pixel_size:g} Å; only classes of the same box can be gone on from"
        )
    classes = read_table(job.input("templates", "classes.star"), "classes", needs=("class_count", "class_resolution"))
    images = images.reshape(-1, *images.shape[-2:])
    shown = images.any(axis=(-2, -1)) if images.any() else np.ones(len(images), dtype=bool)
    classes = classes[shown]
    stack = torch.tensor(images[shown], dtype=torch.float32, device=job.device)
    references = resize_images(stack, (plan.side, plan.side)) * (plan.box_px / plan.side**2)
    larger = classes["class_count"] >= 0.5 * classes["class_count"].mean()
    radius = int(min(max(box / float(classes.loc[larger, "class_resolution"].min()), plan.first_radius), plan.finest))
    return references, radius
