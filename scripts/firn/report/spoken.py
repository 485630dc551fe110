"""How a report speaks of numbers, times and settings."""

import time
from typing import Any


def spoken_time(seconds: float) -> str:
    """`4.2 s`, `3 min 05 s` or `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def spoken_number(value: float | None, unit: str = "") -> str:
    """A number as one reads it: whole counts with thin spaces, others with four significant digits; a dash for none."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        text = f"{int(value):,}".replace(",", "\u202f")
    else:
        text = f"{value:.2f}" if unit == "Å" and 1 <= abs(value) < 1000 else f"{value:.4g}"
    return f"{text} {unit}".strip()


def spoken_setting(value: Any) -> str:
    """A parameter's value; `none` for none, lists with commas."""
    return "none" if value is None else ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)


def spoken_moment(seconds: float) -> str:
    """A time since 1970 as date and time in UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)) + " UTC"


def spoken_range(values: list[float], unit: str, digits: int = 2) -> str:
    """`1.20 to 2.40 µm`, or one number where all are alike."""
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def plural(count: float, word: str) -> str:
    """`1 movie`, `1 200 movies`, `2 classes`."""
    return f"{spoken_number(count)} {word if count == 1 else word + ('es' if word.endswith('s') else 's')}"
