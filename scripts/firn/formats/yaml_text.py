"""Small YAML files that people write, read so that no text can fill the memory, keep a processor busy or end in more than one sentence.

Aliases and deep nesting are refused before anything is built from them: nine lines of aliases stand for a thousand million values.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from firn.errors import InputError, brief

LARGEST_BYTES = 4 * 2**20
DEEPEST = 20


def read_yaml(path: str | os.PathLike, what: str, largest: int = LARGEST_BYTES) -> Any:
    """Content of a YAML file, None for an empty one; what: what the file should be, for the sentence of an InputError.

    Raises InputError when it cannot be opened, is no YAML, is larger than so many bytes, uses aliases or nests deeper than DEEPEST.
    """
    try:
        if Path(path).stat().st_size > largest:
            raise InputError(f"{path}: is larger than {largest} bytes, so it cannot be {what}")
        text = Path(path).read_text(encoding="utf-8")
        _check_events(text, path)
        return yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read as {what} ({error.strerror})") from error
    except InputError:
        raise
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as {what} ({brief(error)})") from error


def _check_events(text: str, path: str | os.PathLike) -> None:
    """Events come one by one, so that the first one too deep is the last that is read."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{path}: must not use YAML aliases")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path}: nests more than {DEEPEST} lists and mappings in each other")
