"""The door of import_picks."""

from firn.jobs import import_picks
from firn.runtime.entry import enter

with enter(snakemake, import_picks.Params) as job:
    import_picks.run(job)
