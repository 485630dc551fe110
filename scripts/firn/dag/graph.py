"""The session as a graph of named jobs: which folders each job reads, and in what order they run. Torch-free."""

import fnmatch
from dataclasses import dataclass
from typing import Any

from firn.dag.catalogue import Catalogue, JobType
from firn.dag.check import check_session
from firn.errors import InputError, brief


@dataclass(frozen=True)
class Reference:
    """What a slot names: a job, and a sub-folder of its results or ''."""

    job: str
    group: str = ""

    def folder(self, batch: str | None = None) -> str:
        """Folder of the output, or of one batch of it, relative to the run folder."""
        parts = ["results", self.job, *([self.group] if self.group else []), *(["batches", batch] if batch else [])]
        return "/".join(parts)


class Graph:
    """A checked session. Raises InputError with one sentence when the config has a fault."""

    def __init__(self, config: dict[str, Any], catalogue: Catalogue):
        check_session(config, catalogue)
        self.seed = int(config.get("seed", 1))
        told = config.get("about", {})
        self.about = {str(name): value if isinstance(value, str | int | float) else str(value) for name, value in told.items()}
        """What the session says of its sample and microscope, dates as text."""
        self.jobs: dict[str, dict[str, Any]] = {str(name): dict(settings) for name, settings in config["jobs"].items()}
        self.catalogue = catalogue
        self.references = {name: self._resolve_slots(name) for name in self.jobs}
        self.collected: frozenset[str] = frozenset()
        """Imports whose batches were cut while the microscope collected, so that they run batch by batch too."""
        self.given: dict[str, dict[str, list[str]]] = {}
        """Folders that a job reads by slot, though no job makes them."""
        self.order = self._topological_order()
        for name in self.jobs:
            if self.type_of(name).declared["scatter"]:
                self.root_import(name)

    def type_of(self, job: str) -> JobType:
        """Type of a job."""
        return self.catalogue.types[self.jobs[job]["type"]]

    def names_of(self, *types: str) -> list[str]:
        """Names of the jobs of the given types."""
        return [name for name, settings in self.jobs.items() if settings["type"] in types]

    def scattered(self) -> list[str]:
        """Names of the jobs that run once per batch."""
        return [name for name in self.jobs if self.type_of(name).declared["scatter"]]

    def settings(self, job: str) -> dict[str, Any]:
        """All that decides a job's numbers: type, revision, seed, and every parameter, given or default."""
        job_type = self.type_of(job)
        return {"revision": job_type.declared["revision"], "seed": self.seed} | job_type.defaults | self.jobs[job]

    def settings_with_about(self, job: str) -> dict[str, Any]:
        """The same for a job type that also wants to know what the session says in `about`; what the job itself says there wins."""
        own = self.settings(job)
        return own | {"about": self.about | own.get("about", {})}

    def upstream(self, job: str) -> list[Reference]:
        """Everything a job reads."""
        return [reference for references in self.references[job].values() for reference in references]

    def ancestors(self, job: str) -> set[str]:
        """All jobs that a job needs, directly or through others."""
        found: set[str] = set()
        open_ = [job]
        while open_:
            parents = {reference.job for reference in self.upstream(open_.pop())} - found
            found |= parents
            open_ += parents
        return found

    def root_import(self, job: str) -> str:
        """The import that decided the batches of a scattered job.

        Raises InputError when the inputs come from different imports, whose batches do not match.
        """
        roots = self._roots(job)
        if len(roots) != 1:
            found = ", ".join(sorted(roots)) or "none"
            raise InputError(f"config: jobs.{job}: its exposures and picks must come from one import of movies or micrographs, not {found}")
        return next(iter(roots))

    def runs_in_batches(self, reference: Reference) -> bool:
        """Whether the output is made batch by batch, so that a batch of it can be waited for alone."""
        return not reference.group and (reference.job in self.collected or bool(self.type_of(reference.job).declared["scatter"]))

    def follows_batches(self, job: str, slot: str) -> bool:
        """Whether a scattered job reads this slot batch by batch."""
        return self.type_of(job).slots[slot]["slot"] in ("exposures", "picks")

    def _roots(self, job: str) -> set[str]:
        seen, open_ = {job}, [job]
        while open_:
            current = open_.pop()
            slots = [slot for slot in self.references[current] if self.follows_batches(current, slot)]
            parents = {reference.job for slot in slots for reference in self.references[current][slot]} - seen
            seen |= parents
            open_ += [parent for parent in parents if not self.type_of(parent).is_import]
        return {name for name in seen if self.type_of(name).is_import}

    def _resolve_slots(self, job: str) -> dict[str, list[Reference]]:
        slots = self.type_of(job).slots
        given = {name: self.jobs[job][name] for name in slots if self.jobs[job].get(name) is not None}
        return {
            name: [self._resolve(job, name, text, slots[name]["slot"]) for text in (value if isinstance(value, list) else [value])]
            for name, value in given.items()
        }

    def _resolve(self, job: str, slot: str, text: str, kind: str) -> Reference:
        where = f"config: jobs.{job}.{slot}"
        source, _, output = text.partition(".")
        declared = self.type_of(source).declared
        offers, groups, best = declared["offers"], declared["groups"], declared["best_group"]
        if output in ("", kind) and kind in offers:
            return Reference(source)
        if output == "" and best and kind in groups.get(best, groups.get("class_*", ())):
            return Reference(source, best)
        group = next((pattern for pattern in groups if output and fnmatch.fnmatchcase(output, pattern)), None)
        if group and kind in groups[group]:
            return Reference(source, output)
        offered = ", ".join(self.type_of(source).outputs()) or "nothing"
        wanted = f"no output '{brief(output)}' of kind {kind}" if output else f"no {kind}"
        raise InputError(f"{where}: job '{source}' ({self.jobs[source]['type']}) has {wanted}; it offers {offered}")

    def _topological_order(self) -> list[str]:
        order: list[str] = []
        for name in self.jobs:
            self._visit(name, order, [])
        return order

    def _visit(self, job: str, order: list[str], path: list[str]) -> None:
        if job in path:
            raise InputError(f"config: jobs go in a circle: {' -> '.join([*path[path.index(job) :], job])}")
        if job not in order:
            for reference in self.upstream(job):
                self._visit(reference.job, order, [*path, job])
            order.append(job)
