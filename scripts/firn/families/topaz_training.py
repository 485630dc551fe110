"""Training with Topaz, a program of the users' own: known particles laid before it, a share told that comes out right, its curve, its model.

Convention: labels lie in pixels of the smaller micrographs, whose numbers are those of firn.families.topaz.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.errors import InputError
from firn.families.outside_picks import name_of
from firn.families.topaz import Desk, TopazParams, normalised, smaller_shape, whole_file
from firn.formats.exposures import load_micrograph
from firn.formats.tables import read_table
from firn.runtime.job import Job
from firn.runtime.params import Kind, Lane, slot

NEEDS = ("exposure_id", "micrograph", "x_px", "y_px", "micrograph_pixel_size")
CURVE, PREFIX = "curve.txt", "model"
COUNTED = re.compile(r"# \S+\ttrain\t([0-9.eE+-]+)\t")
"""Line in which Topaz tells the share of labelled pixels."""


class TrainingParams(TopazParams):
    """Parameters of every job that trains with Topaz."""

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "reconstruct"
    reads_images: ClassVar[bool] = False
    offers: ClassVar[tuple[Kind, ...]] = ("model",)

    picks: str | None = slot("picks", optional=True)
    """Picks that are particles."""
    particles: str | None = slot("particles", optional=True)
    """Particles instead of picks, such as those that select_2d kept; their refined centres count."""
    downsampling: int = Field(8, ge=1, le=64)
    """Factor by which micrographs are made smaller first; a particle should be 10 to 20 pixels wide then."""
    radius: int = Field(3, ge=0, le=50)
    """Pixels of the smaller micrographs around a centre that count as the particle."""
    architecture: Literal["resnet8", "resnet16", "conv31", "conv63", "conv127"] = "resnet8"
    """Network: resnet8 sees 71 pixels, resnet16 sees 95."""
    units: Literal[16, 32, 64, 128] = 32
    """Channels of its first layer."""
    pretrained: bool = True
    """Start from the network that comes with Topaz, where it has one of this shape (resnet8 and resnet16 with 32 or 64 units)."""
    epochs: int = Field(10, ge=1, le=1000)
    """Epochs."""
    updates: int = Field(1000, ge=1)
    """Steps in an epoch."""
    learning_rate: float = Field(0.0002, gt=0)
    """Size of a step."""
    max_micrographs: int = Field(500, ge=1)
    """Micrographs used at most, drawn by chance."""

    @model_validator(mode="after")
    def _one_source(self) -> "TrainingParams":
        if bool(self.particles) == bool(self.picks):
            raise ValueError("give either picks or particles")
        return self


@dataclass(frozen=True)
class Labels:
    """Known particles: a table of number (of the micrograph), x, y in pixels of the smaller micrographs, whose pixels are told by number."""

    table: pd.DataFrame
    pixels: dict[int, int]

    def of(self, numbers: Sequence[int]) -> "Labels":
        """Those of some of the micrographs."""
        chosen = set(numbers)
        return Labels(self.table[self.table["number"].isin(chosen)], {number: self.pixels[number] for number in sorted(chosen)})

    @property
    def per_micrograph(self) -> float:
        """Known particles of a micrograph, on average."""
        return len(self.table) / len(self.pixels)


def put_known(job: Job[Any], desk: Desk) -> tuple[Labels, float]:
    """(labels of all micrographs, Å per pixel of the smaller ones, which then lie before Topaz, not yet normalised).

    Raises InputError where there is nothing to learn from, or micrographs have several pixel sizes.
    """
    known, factor = _known(job), job.params.downsampling
    pixel_size = float(known["micrograph_pixel_size"].iloc[0])
    tables: list[pd.DataFrame] = []
    pixels: dict[int, int] = {}
    groups = list(known.groupby("exposure_id", sort=True))
    for number, (_, rows) in enumerate(job.over(groups, "micrographs")):
        micrograph = load_micrograph(rows.iloc[0].to_dict())
        desk.put(number, micrograph, pixel_size, factor)
        height, width = smaller_shape(micrograph.shape, factor)
        places = {axis: np.rint(rows[f"{axis}_px"].to_numpy(dtype=float) / factor).astype(int) for axis in "xy"}
        table = pd.DataFrame({"number": number, **places})
        tables.append(table[table["x"].between(0, width - 1) & table["y"].between(0, height - 1)])
        pixels[number] = height * width
    return Labels(pd.concat(tables, ignore_index=True), pixels), pixel_size * factor


def _known(job: Job[Any]) -> pd.DataFrame:
    """Known particles, with their true centres, of at most max_micrographs exposures."""
    kind = "particles" if job.has("particles") else "picks"
    table = read_table(job.input(kind, f"{kind}.star"), kind, needs=NEEDS)
    if table.empty:
        raise InputError(f"job {job.name}: there are no {kind} to learn from")
    if table["micrograph_pixel_size"].nunique() > 1:
        raise InputError(f"job {job.name}: its micrographs have several pixel sizes; Topaz takes one")
    names = sorted(set(table["exposure_id"]))
    drawn = job.numpy_generator("micrographs").permutation(len(names))[: job.params.max_micrographs]
    table = table[table["exposure_id"].isin([names[number] for number in drawn])]
    if "origin_x" not in table.columns:
        return table
    pixel_size = table["micrograph_pixel_size"].astype(float)
    return table.assign(
        **{f"{axis}_px": table[f"{axis}_px"].astype(float) - table[f"origin_{axis}"].astype(float) / pixel_size for axis in "xy"}
    )


def write_lists(folder: Path, name: str, labels: Labels) -> None:
    """Write `<name>_images.txt` and `<name>_targets.txt`, the lists of normalised micrographs and of labels that Topaz reads."""
    images = [{"image_name": name_of(number), "path": normalised(whole_file(number))} for number in labels.pixels]
    pd.DataFrame(images).to_csv(folder / f"{name}_images.txt", sep="\t", index=False)
    targets = pd.DataFrame({"image_name": labels.table["number"].map(name_of), "x_coord": labels.table["x"], "y_coord": labels.table["y"]})
    targets.to_csv(folder / f"{name}_targets.txt", sep="\t", index=False)


def training_options(params: TrainingParams, train: str, test: str | None) -> list[str]:
    """Options of `topaz train` that all its runs have; one process draws the crops, since several would draw the same ones.

    train, test: names of the lists to learn from and to judge by.
    """
    roles = {"train": train} | ({"test": test} if test else {})
    lists = [f"--{role}-{what}={name}_{what}.txt" for role, name in roles.items() for what in ("images", "targets")]
    network = [f"--model={params.architecture}", f"--units={params.units}", *([] if params.pretrained else ["--no-pretrained"])]
    steps = [f"--radius={params.radius}", f"--epoch-size={params.updates}", f"--learning-rate={params.learning_rate:g}", "--num-workers=0"]
    return [*lists, *network, *steps, f"--save-prefix={PREFIX}", f"--output={CURVE}", *params.arguments]


def counted_share(desk: Desk, options: Sequence[str]) -> float:
    """Share of labelled pixels as Topaz counts them, which a run of no epochs tells."""
    said: list[str] = []
    desk.run(desk.command("train", [*options, "--num-epochs=0", "--pi=0.5"]), heard=said.append)
    counted = next((float(found[1]) for line in said if (found := COUNTED.match(line))), None)
    if counted is None:
        raise InputError("topaz train did not tell the share of pixels that are labelled")
    return counted


def share_to_tell(counted: float, expected: float, train: Labels, radius: int) -> float:
    """The share of particle pixels (pi) that makes Topaz expect as many particles of a micrograph as are expected.

    Topaz takes the share of labelled pixels, as it counts them, off pi, and expects the rest among the unlabelled. It counts discs;
    versions 0.3 count each pixel of a disc 2 radius + 1 times, and so they do for `--num-particles`.
    """
    disc = pixels_of_disc(radius) / (sum(train.pixels.values()) / len(train.pixels))
    return counted + (expected - train.per_micrograph) * disc


def check_expected(job: Job[Any], expected: float, train: Labels) -> None:
    """Raise InputError when fewer particles are expected than are known."""
    if expected <= train.per_micrograph:
        raise InputError(
            f"job {job.name}: expected_particles is {expected:g}, but {train.per_micrograph:.1f} particles of a micrograph are given "
            f"on average; tell how many there are in truth, known or not"
        )


def training_command(desk: Desk, options: Sequence[str], epochs: int, share: float) -> list[str]:
    """Command that trains for some epochs."""
    return desk.command("train", [*options, f"--num-epochs={epochs}", f"--pi={share:.6g}"])


def pixels_of_disc(radius: int) -> int:
    """Pixels of which a disc around a pixel consists."""
    side = np.arange(-radius, radius + 1)
    return int((side[:, None] ** 2 + side**2 <= radius**2).sum())


def read_curve(path: Path) -> pd.DataFrame:
    """What Topaz tells of its training: epoch, split (train or test), loss, precision, tpr, auprc and more, NaN where it tells nothing."""
    try:
        curve = pd.read_csv(path, sep="\t", na_values="-")
    except (OSError, ValueError) as error:
        raise InputError(f"topaz train wrote no table of its progress ({error})") from error
    missing = next((name for name in ("epoch", "split", "loss", "precision", "tpr", "auprc") if name not in curve.columns), None)
    if missing or curve.empty:
        raise InputError(f"topaz train wrote a table of its progress without {missing or 'rows'}")
    return curve


def keep_model(job: Job[Any], work: Path, epoch: int, pixel_size: float, **told: Any) -> None:
    """Model of an epoch, what it was trained with, and the whole curve, into the job's folder. pixel_size (Å) is of smaller micrographs."""
    found = next((path for path in work.glob(f"{PREFIX}_epoch*.sav") if int(path.stem.removeprefix(f"{PREFIX}_epoch")) == epoch), None)
    if found is None:
        raise InputError(f"topaz train wrote no model of epoch {epoch}")
    shutil.move(found, job.folder / "model.sav")
    shutil.move(work / CURVE, job.folder / "training.tsv")
    params = job.params
    known: Mapping[str, Any] = {
        "downsampling": params.downsampling,
        "pixel_size": pixel_size,
        "architecture": params.architecture,
        "epoch": epoch,
    }
    (job.folder / "model.json").write_text(json.dumps({**known, **told}, indent=1), encoding="utf-8")
