"""Chapters of picks, classes and maps: the figures that the jobs made, in the order in which one reads them."""

from collections.abc import Iterator

from firn.report.document import Block, Facts, Heading, Picture, Section, Table, file_picture
from firn.report.records import JobRecord
from firn.report.refine import draw_rounds
from firn.report.session import Session
from firn.report.spoken import spoken_number
from firn.report.style import png_of

PICKING = {
    "blob_picker": ("pick_scores",), "template_picker": ("pick_scores",), "preprocess": ("pick_scores",), "inspect_picks": ("thresholds",),
    "import_picks": ("micrographs",), "extract_particles": ("batch_0001_particles", "particles"),
}  # fmt: skip
CLASSES = {"classify_2d": ("classes", "class_sizes"), "stream_2d": ("classes",), "select_2d": ("selection",)}
STARTS = {"ab_initio": ("volumes",), "refine_heterogeneous": ("volumes", "classes"), "classify_3d": ("volumes", "classes")}
MAP_FIGURES = ("fsc", "slices", "surface", "directions", "guinier", "convergence", "forecast")
BESIDE = {
    "orientation_diagnostics": ("conical_fsc", "spheres", "sampling"), "local_resolution": ("slices", "surface", "histogram"),
    "local_filter": ("slices",), "ctf_refine_global": ("tilts", "odd_phase"), "score": ("map", "poses"),
}  # fmt: skip
SHARES = {
    "pick_scores": 0.5, "batch_0001_particles": 0.5, "particles": 0.5, "class_sizes": 0.5, "directions": 0.5, "guinier": 0.5, "convergence": 0.5,
    "sampling": 0.5, "histogram": 0.5, "fsc": 0.75, "poses": 0.75, "tilts": 0.5,
}  # fmt: skip
"""Parts of the page width that figures take which need less than all of it."""
RESOLUTIONS = {
    "resolution_corrected": "corrected for the mask", "resolution_tight": "tight mask", "resolution_loose": "loose mask",
    "resolution_spherical": "spherical mask", "resolution_unmasked": "no mask",
}  # fmt: skip


def figure_chapter(session: Session, title: str, anchor: str, wanted: dict[str, tuple[str, ...]]) -> Section | None:
    """A chapter of the figures of certain job types; None where there are none."""
    blocks: list[Block] = []
    for record in session.records:
        pictures = list(_pictures(record, wanted.get(record.type, ())))
        blocks += [Heading(_opening(record)), *pictures] if pictures else []
    return Section(title, anchor, tuple(blocks)) if blocks else None


def picking_chapter(session: Session) -> Section | None:
    """Scores of the picks, and particles as they were cut out."""
    return figure_chapter(session, "Picking", "picking", PICKING)


def class_chapter(session: Session) -> Section | None:
    """2D classes, and which were selected."""
    return figure_chapter(session, "2D classes", "classes", CLASSES)


def start_chapter(session: Session) -> Section | None:
    """First maps and 3D classes."""
    return figure_chapter(session, "First maps and 3D classes", "starts", STARTS)


def map_chapter(session: Session) -> Section | None:
    """Each final map: resolution by every curve, Fourier shell correlation, slices, surface, viewing directions; rounds of a live session."""
    blocks: list[Block] = []
    for final in session.finals:
        line = [final, *reversed(session.ancestors(final.name))]
        blocks += [Heading(_opening(final)), Facts(tuple(map_facts(final, line)))]
        for name in MAP_FIGURES:
            record = next((each for each in line if each.makes_map and each.figure(name)), None)
            blocks += list(_pictures(record, (name,))) if record else []
        blocks += list(_beside(session, [record.name for record in line if record.makes_map]))
    blocks += list(_rounds(session))
    return Section("Maps", "maps-in-detail", tuple(blocks)) if blocks else None


def map_facts(final: JobRecord, line: list[JobRecord]) -> Iterator[tuple[str, str]]:
    """Resolution by each curve, particles, symmetry and sharpening of a map, from itself or the nearest job before it that tells."""
    for name, words in RESOLUTIONS.items():
        found = next((record.metric(name) for record in line if record.makes_map and record.metric(name)), None)
        if found:
            half = next((record.metric(f"{name}_at_05") for record in line if record.metric(f"{name}_at_05")), None)
            yield f"resolution, {words}", f"{found:.2f} Å at FSC 0.143" + (f", {half:.2f} Å at 0.5" if half else "")
    refined = next(
        (record for record in line if record.type.startswith("refine_") or record.type in ("reconstruct", "stream_refine")), None
    )
    if refined is not None:
        count = particle_count(refined)
        yield from [("particles", spoken_number(count))] if count else []
        yield "symmetry", str(refined.content["settings"].get("symmetry", "C1"))
    sharpened = next((record for record in line if record.metric("b_factor") is not None), None)
    if sharpened is not None:
        yield "B-factor applied", f"{sharpened.metric('b_factor'):.0f} Å²"
    yield "file", str(final.folder / "map.mrc")


def particle_count(record: JobRecord) -> int | None:
    """Particles of a refinement."""
    told = record.metric("particles")
    return int(told) if told is not None else (len(record.table("particles")) or None)


def _opening(record: JobRecord) -> str:
    return f"{record.name} ({record.type.replace('_', ' ')})"


def _pictures(record: JobRecord, names: tuple[str, ...]) -> Iterator[Picture]:
    for name in names:
        figure = record.figure(name)
        if figure:
            yield file_picture(record.folder / figure["file"], figure["title"], figure["caption"], SHARES.get(name, 1.0))


def _beside(session: Session, names: list[str]) -> Iterator[Block]:
    """Figures of the jobs that measured one of the maps and made no map of their own line."""
    for record in session.records:
        pictures = list(_pictures(record, BESIDE.get(record.type, ()))) if set(record.upstream) & set(names) else []
        if pictures:
            yield Heading(_opening(record))
            yield from pictures


def _rounds(session: Session) -> Iterator[Block]:
    """Rounds of the map while movies came."""
    table = session.live_table("rounds.csv")
    if table.empty:
        return
    maps = table[(table["role"] == "refine") & (table["state"] == "done") & table["resolution"].notna()]
    rows = [
        (str(row["job"]), str(row["round"]), spoken_number(row["particles"]), spoken_number(row["resolution"], "Å"))
        for row in maps.to_dict("records")
    ]
    for name, part in maps.groupby("job"):
        if len(part) > 1:
            figure = draw_rounds(part["particles"].to_numpy(float), part["resolution"].to_numpy(float))
            caption = "On a straight line the map is limited by the particles; where it levels off, by something else. Dashed: the line through all rounds."
            yield Picture(png_of(figure), f"Resolution by particles, {name}", caption, 0.75)
    if rows:
        yield Table("Rounds of the map while movies came", ("job", "round", "particles", "resolution"), tuple(rows), (0.4, 0.2, 0.2, 0.2))
