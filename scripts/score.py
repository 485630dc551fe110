"""The door of score."""

from firn.jobs import score
from firn.runtime.entry import enter

with enter(snakemake, score.Params) as job:
    score.run(job)
