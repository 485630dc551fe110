"""The job graph as a small inline SVG: time runs downwards, a job below all it reads, independent branches side by side."""

from dataclasses import dataclass
from html import escape

from firn.report.records import JobRecord

WIDTH, HEIGHT = 132, 38
GAP_X, GAP_Y = 34, 20
MARGIN = 8


@dataclass(frozen=True)
class Place:
    """Row and column of a job in the drawing."""

    row: int
    column: int

    @property
    def x(self) -> int:
        """Left edge in px."""
        return MARGIN + self.column * (WIDTH + GAP_X)

    @property
    def y(self) -> int:
        """Upper edge in px."""
        return MARGIN + self.row * (HEIGHT + GAP_Y)


def draw_graph(records: list[JobRecord], finals: list[JobRecord]) -> str:
    """SVG text; each job links to `#job-<name>`, jobs with warnings carry a dot, final maps an outline."""
    places = place_jobs(records)
    width = 2 * MARGIN + max((place.column for place in places.values()), default=0) * (WIDTH + GAP_X) + WIDTH + GAP_X
    height = 2 * MARGIN + max((place.row for place in places.values()), default=0) * (HEIGHT + GAP_Y) + HEIGHT
    edges = [_edge(places[up], places[record.name], places) for record in records for up in record.upstream]
    final_names = {record.name for record in finals}
    nodes = [_node(record, places[record.name], record.name in final_names) for record in records]
    return f'<svg class="graph" viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="Job graph">{"".join(edges + nodes)}</svg>'


def place_jobs(records: list[JobRecord]) -> dict[str, Place]:
    """Place of every job; records come in an order in which each job follows those it reads."""
    places: dict[str, Place] = {}
    offset = 0
    for branch in _branches(records):
        own = _place_branch(branch)
        places |= {name: Place(place.row, place.column + offset) for name, place in own.items()}
        offset += 1 + max(place.column for place in own.values())
    return places


def _branches(records: list[JobRecord]) -> list[list[JobRecord]]:
    """Connected parts of the graph, each in the given order."""
    group = {record.name: number for number, record in enumerate(records)}
    for record in records:
        for up in record.upstream:
            old, new = group[record.name], group[up]
            group = {name: new if value == old else value for name, value in group.items()}
    return [[record for record in records if group[record.name] == number] for number in dict.fromkeys(group.values())]


def _place_branch(records: list[JobRecord]) -> dict[str, Place]:
    rows: dict[str, int] = {}
    for record in records:
        rows[record.name] = 1 + max((rows[up] for up in record.upstream), default=-1)
    places: dict[str, Place] = {}
    for record in sorted(records, key=lambda record: rows[record.name]):
        row = rows[record.name]
        taken = {place.column for place in places.values() if place.row == row}
        wanted = min((places[up].column for up in record.upstream), default=0)
        free = next(column for column in range(wanted, wanted + len(records) + 1) if column not in taken)
        places[record.name] = Place(row, free)
    return places


def _edge(start: Place, end: Place, places: dict[str, Place]) -> str:
    """A straight curve to the next row; past other jobs, a line in the gap to the right of the column it starts from."""
    x2, y2 = end.x + WIDTH / 2, float(end.y)
    if not _is_blocked(start, end, places):
        x1, top = start.x + WIDTH / 2, start.y + HEIGHT
        middle = (top + y2) / 2
        return _path(f"M{x1:g} {top} C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}")
    side, y1 = start.x + WIDTH, start.y + HEIGHT * 0.6
    bend = side + min(GAP_X - 8, 10 + 4 * (end.row - start.row))
    out = f"M{side} {y1:g} C{bend} {y1:g} {bend} {y1:g} {bend} {y1 + 14:g}"
    if start.column == end.column:
        y2 = end.y + HEIGHT * 0.4
        return _path(f"{out} V{y2 - 14:g} C{bend} {y2:g} {bend} {y2:g} {side} {y2:g}")
    return _path(f"{out} V{y2 - 18:g} C{bend} {y2 - 6:g} {x2:g} {y2 - 18:g} {x2:g} {y2:g}")


def _is_blocked(start: Place, end: Place, places: dict[str, Place]) -> bool:
    if start.column != end.column:
        return end.row - start.row > 1
    return any(place.column == start.column and start.row < place.row < end.row for place in places.values())


def _path(commands: str) -> str:
    return f'<path class="edge" d="{commands}"/>'


def _node(record: JobRecord, place: Place, final: bool) -> str:
    name, kind = escape(record.name), escape(record.type)
    dot = f'<circle class="dot" cx="{place.x + WIDTH - 9}" cy="{place.y + 9}" r="4"/>' if record.content["warnings"] else ""
    return (
        f'<a href="#job-{name}"><rect class="node{" final" if final else ""}" x="{place.x}" y="{place.y}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
        f'<text class="name" x="{place.x + 10}" y="{place.y + 16}">{_short(name, 17)}</text>'
        f'<text class="kind" x="{place.x + 10}" y="{place.y + 30}">{_short(kind, 21)}</text>{dot}</a>'
    )


def _short(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
