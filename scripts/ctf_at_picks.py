"""The door of ctf_at_picks."""

from firn.jobs import ctf_at_picks
from firn.runtime.entry import enter

with enter(snakemake, ctf_at_picks.Params) as job:
    ctf_at_picks.run(job)
