"""The door of stream_refine."""

from firn.jobs import stream_refine
from firn.runtime.entry import enter

with enter(snakemake, stream_refine.Params) as job:
    stream_refine.run(job)
