"""The generated schema and reference are fresh, and every job type has all its files."""

import json
import re
from pathlib import Path

import pytest

from firn.dag.catalogue import Catalogue
from firn.dag.graph import Graph
from firn.runtime.schema import job_types, reference_text, schema_text

ROOT = Path(__file__).resolve().parents[2]
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests/jobs").glob("test_*.py"))
RULES = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))


def test_schema_and_reference_are_fresh() -> None:
    assert (ROOT / "config/schema.json").read_text() == schema_text(), "run make schema"
    assert (ROOT / "config/README.md").read_text() == reference_text(), "run make schema"


@pytest.mark.parametrize("name", sorted(job_types()))
def test_a_job_type_has_a_door_a_rule_a_caption_and_a_test(name: str) -> None:
    assert f"from firn.jobs import {name}\n" in (ROOT / "scripts" / f"{name}.py").read_text()
    assert re.search(rf"^(rule|checkpoint) {name}:$", RULES, re.MULTILINE)
    assert (ROOT / "docs/report" / f"{name}.rst").exists()
    assert re.search(rf"\b{name}\b", TESTS)


@pytest.mark.parametrize("name", sorted(job_types()))
def test_every_parameter_says_what_it_is(name: str) -> None:
    fields = job_types()[name].model_fields
    assert not [field for field, info in fields.items() if not info.description], "a field has no help under it"


def test_the_rules_name_no_type_that_is_gone() -> None:
    named = set(re.findall(r"jobs_of\(\"(\w+)\"\)", RULES))
    assert named == set(job_types())


@pytest.mark.parametrize(
    "path", [ROOT / "config/config.yaml", *sorted((ROOT / "config/examples").glob("*.yaml"))], ids=lambda path: path.name
)
def test_every_shipped_session_is_valid(path: Path) -> None:
    import yaml

    graph = Graph(yaml.safe_load(path.read_text()), Catalogue(ROOT / "config/schema.json"))
    assert json.dumps([graph.settings(job) for job in graph.order])
