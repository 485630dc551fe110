"""What the dashboard of a long session costs: time until pages stand, of a filter, of sorting and of scrolling, and the server's memory.

    python benchmarks/dashboard.py --exposures 10000

A session of so many finished exposures with a dozen attributes each is written as its ticks leave it; a server of its own is asked by a headless
Chromium of 1280 x 900 px. Times are from the address being opened, or from the key or click, until the page has drawn what it shows then (two
frames later): the best and the median of nine, the first visit apart, in which the server reads everything.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from firn.formats.ids import exposure_id
from firn.live import layout, tick
from firn.live.targets import live_targets
from firn.runtime.atomic import write_json

ROOT = Path(__file__).resolve().parents[1]
PLAN: dict[str, dict[str, Any]] = {
    "movies": {
        "files": ["raw/*.tif"], "batch_size": 10, "eer_fractions": 40, "eer_upsampling": 2,
        "jobs": {"movies": [], "motion": ["movies"]}, "curation": [{"max_motion": 60.0}],
    }
}  # fmt: skip
CONTROL = {"settle_s": 0, "quiet_min": None, "alarms": {"disk_free_gb": 0}}
REPEATS = 9
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
"""The time once what was asked for is on the screen."""


def give_past(exposures: int) -> None:
    """A session of batches of ten that are done, and what a tick tells of it."""
    chance = np.random.default_rng(1)
    for folder in (layout.LIVE, Path("raw"), Path("results/movies/batches"), Path("results/motion/batches")):
        folder.mkdir(parents=True)
    layout.CONTROL.write_text(yaml.safe_dump(CONTROL))
    start = time.time() - 10.0 * exposures
    for number in range(exposures // 10):
        batch, when = f"{number + 1:04d}", start + 100.0 * number
        paths = [f"raw/GridSquare_{number:05d}_FoilHole_{place}_fractions.tif" for place in range(10)]
        files = [{"path": path, "found": when, "complete": when, "shape": "4 64 64"} for path in paths]
        write_json(layout.batch_file("movies", batch), {"import": "movies", "batch": batch, "cut": when, "files": files})
        entries = [
            {"exposure_id": exposure_id(path), "movie": path, "numbers": numbers(chance, when), "code": "", "reason": ""} for path in paths
        ]
        write_json(layout.outcome_file("movies", batch), entries)
        for path in paths:
            Path(path).touch()
    layout.END_MARK.touch()
    tick.run_tick(PLAN, Path(live_targets(PLAN)[-1]))


def numbers(chance: np.random.Generator, when: float) -> dict[str, float]:
    """Attributes of an exposure."""
    values = {"motion_total": chance.gamma(9, 3), "motion_early": chance.gamma(9, 1), "ctf_fit_resolution": 3 + chance.gamma(3, 0.4)}
    values |= {"defocus_u": chance.uniform(8e3, 24e3), "astigmatism": chance.gamma(4, 60), "ice_ring_score": chance.gamma(2, 0.5)}
    values |= {"picks": float(chance.poisson(120)), "pick_score": chance.normal(0.45, 0.05), "particles": float(chance.poisson(100))}
    values |= {
        "stage_x": chance.normal(0, 300),
        "stage_y": chance.normal(0, 300),
        "defocus": values["defocus_u"] - 100,
        "time_ready": when + 60,
    }
    return {name: round(float(value), 4) for name, value in values.items()} | {"time_found": when, "time_complete": when + 12}


def memory_mb(process: int, field: str = "VmRSS") -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def timed(page: Any, act: Callable[[], None], there: Callable[[], None]) -> float:
    """Milliseconds from an act until what follows from it is there and drawn."""
    start = page.evaluate("() => performance.now()")
    act()
    there()
    return float(page.evaluate(DRAWN)) - float(start)


def measure(address: str, server: int, exposures: int) -> None:
    """Print a line for each thing that was timed."""
    from playwright.sync_api import sync_playwright

    chromium = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for name, there in (("exposures", "tbody tr:not(.filler)"), ("", ".plot svg, .plot canvas")):
            times = [opened(page, f"{address}{name}", there) for _ in range(REPEATS + 1)]
            print(f"{name or 'overview'} stands: first {times[0]:.0f} ms, then {spread(times[1:])}", flush=True)
        page.goto(f"{address}exposures")
        page.locator("tbody tr:not(.filler)").first.wait_for()
        search, shown = page.get_by_label("filter exposures"), page.locator(".bar [aria-live=polite]")
        for what, words in (("filter by a number", "picks<115"), ("filter by a word", "foilhole_7")):
            times = []
            for _ in range(REPEATS):
                search.fill("")
                before = shown.text_content()
                times.append(timed(page, lambda words=words: search.fill(words), lambda before=before: changed(page, before)))
            print(f"{what}: {spread(times)} ({shown.text_content()})", flush=True)
        search.fill("")
        head = page.locator("thead button").nth(6)
        print(f"sort: {spread([timed(page, head.click, lambda: None) for _ in range(REPEATS)])}", flush=True)
        scroll = "down => { const box = document.querySelector('.scroller'); box.scrollTop = down * box.scrollHeight / 7; }"
        times = [timed(page, lambda down=down: page.evaluate(scroll, down), lambda: None) for down in (1, 5, 2, 6, 3)]
        print(f"scroll by thousands of rows: {spread(times)}; rows drawn: {page.locator('tbody tr:not(.filler)').count()}", flush=True)
        browser.close()
    print(f"server: {memory_mb(server):.0f} MB, at most {memory_mb(server, 'VmHWM'):.0f} MB, with {exposures} exposures", flush=True)


def spread(times: list[float]) -> str:
    """Best and median."""
    return f"{min(times):.0f} ms at best, {statistics.median(times):.0f} ms in the middle"


def opened(page: Any, address: str, there: str) -> float:
    """Milliseconds from opening an address until its table or plots are drawn."""
    page.goto("about:blank")
    start = time.monotonic()
    page.goto(address, wait_until="commit")
    page.locator(there).first.wait_for()
    page.evaluate(DRAWN)
    return 1e3 * (time.monotonic() - start)


def changed(page: Any, before: str) -> None:
    """Wait for the count of rows to be another."""
    page.wait_for_function("before => document.querySelector('.bar [aria-live=polite]').textContent !== before", arg=before, polling="raf")


def main() -> None:
    """Write the session, serve it, ask for its pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exposures", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/dashboard"))
    options = parser.parse_args()
    run = options.out.resolve()
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    os.chdir(run)
    give_past(options.exposures)
    server = subprocess.Popen([sys.executable, str(ROOT / "scripts/dashboard.py"), str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        measure(server.stdout.readline().strip(), server.pid, options.exposures)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
