"""The door of gctf."""

from firn.jobs import gctf
from firn.runtime.entry import enter

with enter(snakemake, gctf.Params) as job:
    gctf.run(job)
