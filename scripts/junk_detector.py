"""The door of junk_detector."""

from firn.jobs import junk_detector
from firn.runtime.entry import enter

with enter(snakemake, junk_detector.Params) as job:
    junk_detector.run(job)
