"""A simulated live session: movies land, jobs leave their numbers, and the loop's own ticks take both up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image, ImageDraw

from firn.formats.ids import exposure_id
from firn.formats.tables import write_table
from firn.live import layout, tick
from firn.live.targets import live_targets
from firn.simulate.write_movie import write_tiff_movie

BATCH_SIZE = 8
PICTURE_PX = 96
PLAN: dict[str, dict[str, Any]] = {
    "movies": {
        "files": ["raw/*.tif"], "batch_size": BATCH_SIZE, "eer_fractions": 40, "eer_upsampling": 2,
        "jobs": {"movies": [], "motion": ["movies"]}, "curation": [{"max_motion": 60.0}],
    }
}  # fmt: skip
CONTROL = "# our own notes stay\n" + yaml.safe_dump(
    {"settle_s": 0, "give_up_s": 1000, "max_wait_s": 1000, "poll_s": 0.001, "quiet_min": None, "alarms": {"disk_free_gb": 0}}
)


def land_session(batches: int) -> None:
    """In the working directory: batches of movies, found, cut, processed and judged; one more batch is in work."""
    Path("raw").mkdir()
    layout.LIVE.mkdir()
    layout.CONTROL.write_text(CONTROL)
    for _ in range(batches + 1):
        turn()


def turn() -> None:
    """Finish the batch in work, land another, and let a tick of the loop run, which heeds what people decided first of all."""
    for folder in layout.LIVE.glob("batches/movies/[0-9]*.json"):
        if not layout.result_file("motion", folder.stem).exists():
            _finish(folder.stem)
    first = len(list(Path("raw").iterdir()))
    for number in range(first, first + BATCH_SIZE):
        write_tiff_movie(f"raw/GridSquare_{number:04d}_fractions.tif", [np.full((16, 16), 1, dtype=np.uint8)] * 4)
    tick.run_tick(PLAN, Path(live_targets(PLAN)[-1]))


def _finish(batch: str) -> None:
    chance = np.random.default_rng(int(batch))
    files = [entry["path"] for entry in json.loads(layout.batch_file("movies", batch).read_text())["files"]]
    optics = {"optics_name": "night", "voltage_kv": 300.0, "micrograph_pixel_size": 1.1}
    rows = pd.DataFrame(
        {"exposure_id": [exposure_id(path) for path in files], "batch": batch, "movie": files, "width_px": 4096, "height_px": 4096}
    )
    rows = rows.assign(**{f"stage_{axis}": 40.0 * (np.arange(len(files)) // 4) + 90 * chance.normal() for axis in "xy"})
    numbers = {"motion_total": chance.gamma(9, 3, len(files)), "motion_early": chance.gamma(9, 1, len(files)),
               "ctf_fit_resolution": 3 + chance.gamma(3, 0.4, len(files)), "defocus_u": chance.uniform(8e3, 24e3, len(files))}  # fmt: skip
    folders = {job: layout.result_file(job, batch).parent for job in PLAN["movies"]["jobs"]}
    for folder in folders.values():
        (folder / "figures").mkdir(parents=True)
        (folder / "job.json").write_text(
            json.dumps({"job": folder.parts[1], "type": "preprocess", "batch": batch, "settings": {"dose": 40.0}, "seconds": 9.0})
        )
    pictures = [_picture(folders["motion"] / "figures" / f"thumbnail_{name}.png", chance) for name in rows["exposure_id"]]
    table = rows.assign(**numbers, defocus_v=numbers["defocus_u"] - 200, astigmatism=200.0, thumbnail=pictures, **optics)
    write_table(folders["movies"] / "exposures.star", rows.assign(**optics), "exposures")
    write_table(folders["motion"] / "exposures.star", table, "exposures")
    particles = _picks(rows, chance, (20, 60), (0.45, 1.0)).assign(**optics)
    noise = _picks(rows, chance, (30, 50), (0.15, 0.2)).assign(**optics)
    write_table(folders["motion"] / "picks.star", particles, "picks")
    write_table(folders["motion"] / "maxima_0.star", pd.concat([particles, noise]), "picks")


def _picks(rows: pd.DataFrame, chance: np.random.Generator, counts: tuple[int, int], middle: tuple[float, float]) -> pd.DataFrame:
    """So many picks in each exposure, around a correlation and a power."""
    picks = rows.loc[rows.index.repeat(chance.integers(*counts, len(rows))), ["exposure_id", "batch"]].reset_index(drop=True)
    count = len(picks)
    score = np.clip(chance.normal(middle[0], 0.05, count), 0.02, 0.98)
    places = {name: chance.uniform(200, 3900, count) for name in ("x_px", "y_px")}
    return picks.assign(
        micrograph="m.mrc", pick_score=score, pick_power=middle[1] * chance.lognormal(0, 0.3, count), diameter=180.0, **places
    )


def _picture(path: Path, chance: np.random.Generator) -> str:
    """A micrograph as a thumbnail: noise with dark discs."""
    image = Image.fromarray(chance.normal(150, 22, (PICTURE_PX, PICTURE_PX)).clip(0, 255).astype(np.uint8))
    for x, y in chance.uniform(4, PICTURE_PX - 4, (12, 2)):
        ImageDraw.Draw(image).ellipse((x - 3, y - 3, x + 3, y + 3), fill=95)
    image.save(path)
    return path.as_posix()
