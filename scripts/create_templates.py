"""The door of create_templates."""

from firn.jobs import create_templates
from firn.runtime.entry import enter

with enter(snakemake, create_templates.Params) as job:
    create_templates.run(job)
