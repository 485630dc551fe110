"""Play a microscope: send ready movies into a folder as a session would (see --help)."""

import argparse
import json
from pathlib import Path

import numpy as np

from firn.simulate.microscope import Habits, deliver, plan_arrivals

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("movies", nargs="+", type=Path, help="ready movies")
parser.add_argument("--into", type=Path, required=True, help="folder that is watched")
parser.add_argument("--interval", type=float, default=10.0, help="seconds between movies")
parser.add_argument("--growth", type=float, default=2.0, help="seconds in which a movie arrives")
parser.add_argument("--bad", type=float, default=0.0, help="fraction of bad files: truncated, empty, garbage")
parser.add_argument(
    "--pause", type=float, nargs=2, action="append", default=[], metavar=("AFTER", "SECONDS"), help="pause after so many movies"
)
parser.add_argument("--late", type=int, default=0, help="movies that come late")
parser.add_argument("--lateness", type=float, default=60.0, help="seconds by which they are late")
parser.add_argument("--strays", type=int, default=0, help="a file that is no movie after every so many movies")
parser.add_argument("--layout", choices=("epu", "flat"), default="epu", help="how files are named")
parser.add_argument("--manifest", type=Path, help="JSON lines: what was sent, and when it was complete")
parser.add_argument("--end", type=Path, help="file to touch after the last movie, such as RUN/live/end")
parser.add_argument("--seed", type=int, default=1)
given = parser.parse_args()

pauses = tuple((int(after), length) for after, length in given.pause)
habits = Habits(given.interval, given.growth, 8, given.bad, pauses, given.late, given.lateness, given.strays, given.layout)
arrivals = plan_arrivals(sorted(given.movies), habits, np.random.default_rng(given.seed))
for sent in deliver(arrivals, given.into, habits):
    if given.manifest is not None:
        with given.manifest.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(sent) + "\n")
if given.end is not None:
    given.end.parent.mkdir(parents=True, exist_ok=True)
    given.end.touch()
