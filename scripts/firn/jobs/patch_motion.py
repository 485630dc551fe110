"""Correct gain, defects and motion of movies, and sum their frames, plain and dose-weighted."""

from typing import ClassVar

from firn.families.motion import MotionParams, correct_batch
from firn.runtime.job import Job


class Params(MotionParams):
    """Align the frames of movies, as a whole and locally by a smooth field, and sum them with weights for their dose."""

    revision: ClassVar[int] = 7
    local: bool = True
    """Also correct motion that differs over the image."""


def run(job: Job[Params]) -> None:
    """Correct each movie of the batch; one that cannot be used goes to failed.star and the rest goes on."""
    correct_batch(job, job.params.local)
