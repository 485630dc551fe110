"""The door of stream_2d."""

from firn.jobs import stream_2d
from firn.runtime.entry import enter

with enter(snakemake, stream_2d.Params) as job:
    stream_2d.run(job)
