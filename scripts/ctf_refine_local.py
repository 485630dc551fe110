"""The door of ctf_refine_local."""

from firn.jobs import ctf_refine_local
from firn.runtime.entry import enter

with enter(snakemake, ctf_refine_local.Params) as job:
    ctf_refine_local.run(job)
