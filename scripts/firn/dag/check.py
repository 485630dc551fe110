"""One line for each thing that is wrong with a session's config, before anything runs.

Whatever YAML may hold is looked at with bounds: aliases can make a few lines stand for more values than any memory holds.
"""

import math
import re
import reprlib
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from firn.dag.catalogue import Catalogue, JobType
from firn.errors import InputError, brief, hint_at

JOB_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
TOP_KEYS = ("seed", "title", "about", "jobs")
MOST_JOBS, MOST_VALUES, DEEPEST = 500, 100_000, 20
LARGEST_WHOLE = 2**53
MOST_FAULTS = 20


def check_session(config: dict[str, Any], catalogue: Catalogue) -> None:
    """Raise InputError when the config is no session: one line, with place and hint, for each fault of its keys, types, parameters and names of jobs."""
    _check_size(config)
    faults = list(_faults(config, catalogue))
    if len(faults) > MOST_FAULTS:
        faults[MOST_FAULTS:] = [f"config: and {len(faults) - MOST_FAULTS} more faults"]
    if faults:
        raise InputError("\n".join(faults))


def _check_size(config: Any) -> None:
    """Counted value by value, so that aliases of aliases are noticed before they are followed to their end."""
    stack, seen = [(config, 0)], 0
    while stack:
        value, depth = stack.pop()
        seen += 1
        if seen > MOST_VALUES or depth > DEEPEST:
            raise InputError(f"config: holds more than {MOST_VALUES} values, or more than {DEEPEST} lists and mappings in each other")
        if isinstance(value, dict):
            stack += [(each, depth + 1) for each in value.values()]
        elif isinstance(value, list | tuple | set):
            stack += [(each, depth + 1) for each in value]


def _faults(config: dict[str, Any], catalogue: Catalogue) -> Iterator[str]:
    for key in config:
        if key not in TOP_KEYS:
            yield f"config: '{brief(key)}' is not a key of a session{hint_at(str(key), TOP_KEYS)}"
    if not isinstance(config.get("seed", 1), int):
        yield f"config: seed: expected a whole number, got {_shown(config['seed'])}"
    about = config.get("about", {})
    if not isinstance(about, dict) or any(isinstance(value, list | dict) for value in about.values()):
        yield f"config: about: expected names and values such as {{sample: apoferritin}}, got {_shown(about)}"
    jobs = config.get("jobs")
    if not isinstance(jobs, dict) or not jobs:
        yield "config: 'jobs' is missing or empty; it maps a name to {type: ..., ...}"
        return
    if len(jobs) > MOST_JOBS:
        yield f"config: has {len(jobs)} jobs, more than the {MOST_JOBS} allowed; divide it into sessions"
    names = [str(name) for name in jobs]
    for name, settings in jobs.items():
        yield from _job_faults(str(name), settings, names, catalogue)


def _job_faults(name: str, settings: Any, jobs: list[str], catalogue: Catalogue) -> Iterator[str]:
    where = f"config: jobs.{brief(name)}"
    if not JOB_NAME.fullmatch(name):
        yield f"{where}: a job's name is a small letter followed by small letters, digits and _"
    elif not isinstance(settings, dict) or "type" not in settings:
        yield f"{where}: expected {{type: ..., ...}}, got {_shown(settings)}"
    elif not isinstance(settings["type"], str) or settings["type"] not in catalogue.types:
        kind = str(settings["type"]) if isinstance(settings["type"], str) else _shown(settings["type"])
        yield f"{where}.type: there is no job type '{brief(kind)}'{hint_at(kind, catalogue.types)}"
    else:
        yield from _setting_faults(where, settings, catalogue.types[settings["type"]])
        yield from _reference_faults(where, settings, jobs, catalogue.types[settings["type"]])


def _setting_faults(where: str, settings: dict[str, Any], job_type: JobType) -> Iterator[str]:
    known = job_type.schema["properties"]
    for key in settings:
        if key != "type" and key not in known:
            yield f"{where}.{brief(key)}: {job_type.name} has no parameter '{brief(key)}'{hint_at(str(key), set(known) - {'type'})}"
    given = {key: value for key, value in settings.items() if key != "type" and key in known}
    unusable = [(key, what) for key, value in given.items() if (what := _unusable(value))]
    yield from (f"{where}.{key}: {what}" for key, what in unusable)
    errors = list(Draft202012Validator(job_type.schema).iter_errors(given))
    if errors and not unusable:
        yield f"{where}{_sentence(best_match(errors))}"


def _reference_faults(where: str, settings: dict[str, Any], jobs: list[str], job_type: JobType) -> Iterator[str]:
    """Slots that name a job that is not there."""
    for slot in job_type.slots:
        given = settings.get(slot)
        for text in given if isinstance(given, list) else [given]:
            source = text.partition(".")[0] if isinstance(text, str) and not _unusable(text) else None
            if source is not None and source not in jobs:
                yield f"{where}.{slot}: there is no job '{brief(source)}'; the jobs are {brief(', '.join(jobs))}"


def _unusable(value: Any) -> str | None:
    """What no parameter can be, whatever its type."""
    if isinstance(value, float) and not math.isfinite(value):
        return "is not a number" if math.isnan(value) else "is infinite"
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        return f"is larger than {LARGEST_WHOLE}, which no parameter needs"
    if isinstance(value, str) and any((letter < " " and letter != "\t") or "\ud800" <= letter <= "\udfff" for letter in value):
        return f"holds a line break or another letter that is no text, in {_shown(value)}"
    if isinstance(value, list | dict):
        parts = value if isinstance(value, list) else [*value, *value.values()]
        return next((what for part in parts if (what := _unusable(part))), None)
    return None


def _sentence(error: ValidationError) -> str:
    place = "".join(f".{part}" for part in error.absolute_path)
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        meaning = error.schema["properties"][missing].get("description", "it is required")
        return f"{place}.{missing}: is missing; {' '.join(meaning.split())}"
    if error.validator == "anyOf":
        wanted = [other for other in error.context if other.schema.get("type") != "null"]
        if len(wanted) == 1:
            return _sentence(wanted[0])
    return f"{place}: {brief(error.message)}"


def _shown(value: Any) -> str:
    """A value as it is written, no longer than a sentence bears."""
    return brief(reprlib.repr(value))
