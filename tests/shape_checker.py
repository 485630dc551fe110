"""The checker of shapes and types in tests; an int may stand for a float, as in Python's numeric tower."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
