"""The apoferritin micrographs of the demo as exposures, and scoring of picks against their hand labels."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from firn.formats.ids import exposure_id
from firn.formats.tables import write_batches, write_table

ROOT = Path(__file__).parent.parent
LABELS = ROOT / "tests/data/empiar-10146-labels"
MATCH_PX = 21


def write_exposures(folder: Path, count: int | None = None) -> pd.DataFrame:
    """Exposure tables of the labelled micrographs, in two batches, with their known defocus."""
    known = pd.read_csv(LABELS / "defocus.csv").dropna(subset="defocus_u_A")[:count]
    paths = [str(ROOT / f"demo/empiar-10146/{name}.mrc") for name in known["micrograph"]]
    table = pd.DataFrame(
        {
            "exposure_id": [exposure_id(Path(path).name) for path in paths],
            "batch": [f"{1 + number // 6:04d}" for number in range(len(paths))],
            "micrograph": paths, "width_px": 1240, "height_px": 1200, "optics_name": "one", "voltage_kv": 300.0, "cs_mm": 0.001,
            "amplitude_contrast": 0.07, "micrograph_pixel_size": 1.5, "defocus_u": known["defocus_u_A"].to_numpy(),
            "defocus_v": known["defocus_v_A"].to_numpy(), "defocus_angle": known["angle_deg"].to_numpy(), "phase_shift": 0.0,
        }
    )  # fmt: skip
    write_table(folder / "exposures.star", table, "exposures")
    write_batches(folder, table, "exposures", sorted(set(table["batch"])))
    return table


def score_picks(picks: pd.DataFrame, exposures: pd.DataFrame) -> tuple[float, float, float]:
    """(F1, precision, recall) by the best one-to-one matching within MATCH_PX over all exposures."""
    hits = wanted = 0
    for row in exposures.itertuples():
        labels = pd.read_csv(LABELS / f"{Path(row.micrograph).stem}.csv")[["x_px", "y_px"]].to_numpy()
        found = picks[picks["exposure_id"] == row.exposure_id][["x_px", "y_px"]].to_numpy(dtype=float)
        distances = cdist(found, labels)
        pairs = linear_sum_assignment(np.where(distances <= MATCH_PX, distances, 1e6))
        hits += int((distances[pairs] <= MATCH_PX).sum())
        wanted += len(labels)
    precision, recall = hits / max(len(picks), 1), hits / wanted
    return 2 * precision * recall / max(precision + recall, 1e-9), precision, recall
