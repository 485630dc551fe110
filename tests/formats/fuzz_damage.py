"""Ways to damage the bytes of a file, as lists of steps that hypothesis can draw and shrink.

A step is (kind, place, size, value): place and size as fractions of the file, value for choosing among what hostile things there are.
"""

import random
from collections.abc import Iterable

HOSTILE_BYTES = (
    *(b"\0", b"\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x80\0\0\0"),
    *(b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"\0\0\0\0\0\0\0\x80", b"\x01\0\0\0", b"\0\0\0\x01", b"\0\x94\x35\x77", b"\0\0\xc0\x7f"),
    *(b"\0\0\x80\x7f", b"\xff" * 16, b"II*\0", b"BZh9", b"\x1f\x8b\x08", b"\x93NUMPY", b"PK\x03\x04", b"\xef\xbb\xbf", b"\r\n"),
)
HOSTILE_WORDS = (
    *("nan", "inf", "-inf", "1e999", "-1", "0", "1e-300", "99999999999999999999", "0x10", "1_000", "None", "true", "''", '""', '"', "'"),
    *(
        "\0",
        "\t",
        "\r",
        "\n",
        "\x1c",
        "\x85",
        "\u2028",
        "\u3000",
        "é",
        "\U0001f980",
        "data_",
        "loop_",
        "_rlnX",
        "#",
        "@",
        "000000@x",
        "-1@x",
    ),
    *("[", "{", "}", "]", "[" * 3000, "{" * 500, "&a", "*a", "!!python/object/apply:os.system [x]", "? x", ": ", "- ", "2001-99-99", "<a>"),
    *("<!DOCTYPE a>", "&#0;", "]]>", "x" * 70000, "%", "..", "/", "\ufeff", "0b", "1:60", "=", "<<", "~", ".inf", "[0,0,x]", "1" * 5000),
)
Step = tuple[str, float, float, int]
BYTE_KINDS = ("flip", "flip", "put", "put", "put", "cut", "drop", "twice", "swap", "zero", "stuff")
TEXT_KINDS = ("word", "word", "word", "word", "line drop", "line twice", "line swap", "glue", "put", "cut", "flip")


def damaged(data: bytes, steps: Iterable[Step]) -> bytes:
    """The bytes after each step in turn."""
    for kind, place, size, value in steps:
        data = _step(data, kind, place, size, value)
    return data


def draw_steps(rng: random.Random, text: bool) -> list[Step]:
    """One to five steps, half of them near the beginning."""
    kinds = TEXT_KINDS if text else BYTE_KINDS
    places = (rng.random() ** rng.choice((1, 1, 3, 6)) for _ in range(rng.choice((1, 1, 1, 2, 3, 5))))
    return [(rng.choice(kinds), place, rng.random() ** 4, rng.randrange(10**6)) for place in places]


def _step(data: bytes, kind: str, place: float, size: float, value: int) -> bytes:
    if kind in ("word", "glue") or kind.startswith("line"):
        return _text_step(data, kind, place, value)
    start = int(place * len(data))
    count = 1 + int(size * (len(data) - start))
    chunk = data[start : start + count]
    hostile = HOSTILE_BYTES[value % len(HOSTILE_BYTES)]
    if kind == "flip":
        return data[:start] + bytes([data[start] ^ 1 << value % 8]) + data[start + 1 :] if data else data
    other = value % (len(data) + 1)
    new = {
        "put": data[:start] + hostile + data[start + len(hostile) :],
        "cut": data[:start],
        "drop": data[:start] + data[start + count :],
        "twice": data[:start] + chunk + data[start:],
        "swap": data[:start] + data[other : other + count] + data[start + count :],
        "zero": data[:start] + bytes(len(chunk)) + data[start + count :],
        "stuff": data[:start] + hostile + data[start:],
    }
    return new[kind]


def _text_step(data: bytes, kind: str, place: float, value: int) -> bytes:
    text = data.decode("utf-8", "surrogateescape")
    separator = "\n" if kind.startswith("line") else " "
    parts = text.split(separator)
    index, other = int(place * len(parts)), value % len(parts)
    if kind == "word":
        parts[index] = HOSTILE_WORDS[value % len(HOSTILE_WORDS)]
    elif kind == "glue":
        parts[index] += HOSTILE_WORDS[value % len(HOSTILE_WORDS)]
    elif kind == "line drop":
        del parts[index]
    elif kind == "line twice":
        parts.insert(index, parts[index])
    else:
        parts[index], parts[other] = parts[other], parts[index]
    return separator.join(parts).encode("utf-8", "surrogateescape")
