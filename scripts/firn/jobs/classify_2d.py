"""Sort particles into 2D classes by online expectation-maximisation and write their averages."""

from typing import ClassVar

from firn.families.classification import ClassificationParams, read_inputs, write_results
from firn.refine.class2d import classify
from firn.runtime.job import Job


class Params(ClassificationParams):
    """Sort particles into classes of alike views and average each: the first look at the molecule, and the way to drop false picks."""

    revision: ClassVar[int] = 6


def run(job: Job[Params]) -> None:
    """Classify, and write particles.star, classes.star, classes.mrcs and the figures; goes on where a run cut short was."""
    inputs, former = read_inputs(job), job.checkpoint.load()
    state, assignment = classify(inputs.particles, inputs.plan, job.generator(), job.over, keep=job.checkpoint.save, former=former)
    write_results(job, inputs, state, assignment)
