"""The door of deepemhancer."""

from firn.jobs import deepemhancer
from firn.runtime.entry import enter

with enter(snakemake, deepemhancer.Params) as job:
    deepemhancer.run(job)
