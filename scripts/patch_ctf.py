"""The door of patch_ctf."""

from firn.jobs import patch_ctf
from firn.runtime.entry import enter

with enter(snakemake, patch_ctf.Params) as job:
    patch_ctf.run(job)
