"""The job types as the generated schema declares them: slots, parameters, outputs, lanes. Torch-free."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class JobType:
    """One entry of config/schema.json's `$defs`."""

    name: str
    schema: dict[str, Any]

    @property
    def declared(self) -> dict[str, Any]:
        """Stage, lane, scatter, revision, offers, groups, best_group."""
        return dict(self.schema["x-firn"])

    @cached_property
    def slots(self) -> dict[str, dict[str, Any]]:
        """Input slots by field name: kind, many, optional."""
        return {name: field for name, field in self.schema["properties"].items() if "slot" in field}

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Default of every parameter that has one."""
        return {name: field["default"] for name, field in self.schema["properties"].items() if "default" in field}

    @property
    def is_import(self) -> bool:
        """Whether the type decides the batches of exposures."""
        return self.name in ("import_movies", "import_micrographs", "import_relion")

    def outputs(self) -> list[str]:
        """What a slot may name, for messages."""
        return [*self.declared["offers"], *self.declared["groups"]]


class Catalogue:
    """All job types of config/schema.json."""

    def __init__(self, schema_path: str | os.PathLike):
        self.schema = json.loads(Path(schema_path).read_text(encoding="utf-8"))
        self.types = {name: JobType(name, schema) for name, schema in self.schema["$defs"].items()}
