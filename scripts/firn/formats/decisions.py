"""A human's decisions about exposures: YAML, STAR or CSV files that accept or reject by id or micrograph name."""

import os
from pathlib import Path

import pandas as pd

from firn.errors import InputError, brief
from firn.formats.star import read_star
from firn.formats.yaml_text import read_yaml

KEYS = ("exposure_id", "micrograph", "firnExposureId", "rlnMicrographName", "rlnMicrographMovieName")
VERDICT_COLUMNS = ("human_verdict", "firnHumanVerdict", "decision", "verdict", "firnVerdict")
VERDICTS = {
    "accept": "accept",
    "accepted": "accept",
    "true": "accept",
    "1": "accept",
    "reject": "reject",
    "rejected": "reject",
    "false": "reject",
    "0": "reject",
}


def read_decisions(path: str | os.PathLike) -> dict[str, str]:
    """Exposure id or micrograph name (path, file name, or file name without ending) to `accept` or `reject`.

    YAML: `name: accept` lines. STAR, CSV: a column of KEYS and one of VERDICT_COLUMNS; rows without a verdict are skipped.
    Raises InputError when the file is missing, damaged, or has another verdict.
    """
    suffix = Path(path).suffix.lower()
    try:
        pairs = _yaml_pairs(path) if suffix in (".yaml", ".yml", ".json") else _table_pairs(path, suffix)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: cannot be read as decisions ({brief(error)})") from error
    return {str(name): _verdict(verdict, name, path) for name, verdict in pairs.items()}


def find_decision(decisions: dict[str, str], exposure: str, micrograph: str) -> tuple[str, str] | None:
    """(name in the file, verdict) of an exposure, by its id, micrograph path, file name, or file name without ending."""
    name = micrograph.rsplit("/", 1)[-1]
    for key in (exposure, micrograph, name, name.rsplit(".", 1)[0]):
        if key in decisions:
            return key, decisions[key]
    return None


def _yaml_pairs(path: str | os.PathLike) -> dict[str, object]:
    content = read_yaml(path, "decisions")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected lines of 'name: accept' or 'name: reject', got a {type(content).__name__}")
    return content


def _table_pairs(path: str | os.PathLike, suffix: str) -> dict[str, object]:
    table = next(iter(read_star(path).values())) if suffix == ".star" else pd.read_csv(path, dtype=str, keep_default_na=False)
    key = next((name for name in KEYS if name in table.columns), None)
    verdict = next((name for name in VERDICT_COLUMNS if name in table.columns), None)
    if key is None or verdict is None:
        raise InputError(
            f"{path}: needs a column of names ({', '.join(KEYS[:2])}) and a column 'decision'; it has {brief(', '.join(map(str, table.columns)))}"
        )
    rows = table[~table[verdict].astype(str).str.lower().isin(["", "none", "nan"])]
    return dict(zip(rows[key].astype(str), rows[verdict], strict=True))


def _verdict(value: object, name: object, path: str | os.PathLike) -> str:
    text = str(value).strip().lower()
    if text not in VERDICTS:
        raise InputError(f"{path}: '{brief(name)}' is decided as '{brief(value)}', which is neither accept nor reject")
    return VERDICTS[text]
