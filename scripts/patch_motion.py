"""The door of patch_motion."""

from firn.jobs import patch_motion
from firn.runtime.entry import enter

with enter(snakemake, patch_motion.Params) as job:
    patch_motion.run(job)
