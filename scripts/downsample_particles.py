"""The door of downsample_particles."""

from firn.jobs import downsample_particles
from firn.runtime.entry import enter

with enter(snakemake, downsample_particles.Params) as job:
    downsample_particles.run(job)
