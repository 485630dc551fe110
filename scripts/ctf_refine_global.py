"""The door of ctf_refine_global."""

from firn.jobs import ctf_refine_global
from firn.runtime.entry import enter

with enter(snakemake, ctf_refine_global.Params) as job:
    ctf_refine_global.run(job)
