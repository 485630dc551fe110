"""The door of full_frame_motion."""

from firn.jobs import full_frame_motion
from firn.runtime.entry import enter

with enter(snakemake, full_frame_motion.Params) as job:
    full_frame_motion.run(job)
