"""The door of volume_tools."""

from firn.jobs import volume_tools
from firn.runtime.entry import enter

with enter(snakemake, volume_tools.Params) as job:
    volume_tools.run(job)
