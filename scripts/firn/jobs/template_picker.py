"""Pick particles by rotated 2D templates, filtered by each micrograph's CTF."""

from typing import ClassVar

from firn.families.micrographs import read_exposures
from firn.families.picking import pick_exposures
from firn.families.template_matches import TemplateParams, Templates, pick_templates
from firn.runtime.job import Job


class Params(TemplateParams):
    """Find particles that look like given 2D classes or projections, in any in-plane rotation.

    Each micrograph is reduced to 20 Å, its background removed, its noise made white, and correlated with every template in
    every rotation. Where no CTF is known this is done twice, with templates weighted at each frequency after the clearest particles of
    the first time. All maxima are kept, with their correlation (NCC) and local power; inspect_picks then decides which are particles.
    """

    revision: ClassVar[int] = 6


def run(job: Job[Params]) -> None:
    """Write picks.star of the batch, with every maximum found."""
    exposures = read_exposures(job)
    templates = Templates(job)
    pick_exposures(job, exposures, lambda micrograph, row: pick_templates(micrograph, row, job, templates), "Template matches")
    job.metric("templates", templates.count)
