"""The door of inspect_picks."""

from firn.jobs import inspect_picks
from firn.runtime.entry import enter

with enter(snakemake, inspect_picks.Params) as job:
    inspect_picks.run(job)
