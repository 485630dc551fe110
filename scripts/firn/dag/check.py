"""One line for each thing that is wrong with a session's config, before anything runs."""

import re
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from firn.dag.catalogue import Catalogue, JobType
from firn.errors import InputError, hint_at

JOB_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
TOP_KEYS = ("seed", "title", "jobs")


def check_session(config: dict[str, Any], catalogue: Catalogue) -> None:
    """Raise InputError with one sentence when the config is not a session: keys, types, parameters."""
    for key in config:
        if key not in TOP_KEYS:
            raise InputError(f"config: '{key}' is not a key of a session{hint_at(key, TOP_KEYS)}")
    if not isinstance(config.get("jobs"), dict) or not config["jobs"]:
        raise InputError("config: 'jobs' is missing or empty; it maps a name to {type: ..., ...}")
    if not isinstance(config.get("seed", 1), int):
        raise InputError(f"config: seed: expected a whole number, got {config['seed']!r}")
    for name, settings in config["jobs"].items():
        _check_job(str(name), settings, catalogue)


def _check_job(name: str, settings: Any, catalogue: Catalogue) -> None:
    where = f"config: jobs.{name}"
    if not JOB_NAME.fullmatch(name):
        raise InputError(f"{where}: a job's name is a small letter followed by small letters, digits and _")
    if not isinstance(settings, dict) or "type" not in settings:
        raise InputError(f"{where}: expected {{type: ..., ...}}, got {settings!r}")
    if settings["type"] not in catalogue.types:
        raise InputError(f"{where}.type: there is no job type '{settings['type']}'{hint_at(str(settings['type']), catalogue.types)}")
    _check_settings(where, settings, catalogue.types[settings["type"]])


def _check_settings(where: str, settings: dict[str, Any], job_type: JobType) -> None:
    for key in settings:
        if key != "type" and key not in job_type.schema["properties"]:
            raise InputError(
                f"{where}.{key}: {job_type.name} has no parameter '{key}'{hint_at(key, set(job_type.schema['properties']) - {'type'})}"
            )
    given = {key: value for key, value in settings.items() if key != "type"}
    errors = list(Draft202012Validator(job_type.schema).iter_errors(given))
    if errors:
        raise InputError(f"{where}{_sentence(best_match(errors))}")
    for key, value in given.items():
        if isinstance(value, float) and value != value:
            raise InputError(f"{where}.{key}: is not a number")


def _sentence(error: ValidationError) -> str:
    place = "".join(f".{part}" for part in error.absolute_path)
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{place}.{missing}: is missing; {error.schema['properties'][missing].get('description', 'it is required')}"
    return f"{place}: {error.message}"
