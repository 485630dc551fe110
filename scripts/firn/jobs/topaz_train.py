"""Train a model with Topaz, a program of the user's own, from micrographs in which some of the particles are known."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from firn.errors import InputError
from firn.families.outside import find_program, record_program
from firn.families.topaz import WORK, Desk, TopazParams, name_of, normalised, smaller_shape, whole_file
from firn.formats.exposures import load_micrograph
from firn.formats.tables import read_table
from firn.report.training import draw_training
from firn.runtime.job import Job
from firn.runtime.params import Kind, Lane, slot

NEEDS = ("exposure_id", "micrograph", "x_px", "y_px", "micrograph_pixel_size")
CURVE, PREFIX = "curve.txt", "model"
COUNTED = re.compile(r"# \S+\ttrain\t([0-9.eE+-]+)\t")
"""Line in which Topaz tells the share of labelled pixels."""


class Params(TopazParams):
    """Train a model that topaz_picker picks with, by the program `topaz`, which is installed apart from this one.

    Some particles suffice, if all that are given are particles: what is not given is not taken for background (positive-unlabelled learning).
    A share of the micrographs is kept apart, and the epoch that tells known particles best from all else there is chosen.
    """

    stage: ClassVar[str] = "pick"
    lane: ClassVar[Lane] = "reconstruct"
    reads_images: ClassVar[bool] = False
    offers: ClassVar[tuple[Kind, ...]] = ("model",)

    picks: str | None = slot("picks", optional=True)
    """Picks that are particles."""
    particles: str | None = slot("particles", optional=True)
    """Particles instead of picks, such as those that select_2d kept; their refined centres count."""
    expected_particles: float = Field(gt=0)
    """Particles that a micrograph has on average, known or not; more than are given."""
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
    test_fraction: float = Field(0.2, ge=0, lt=1)
    """Share of micrographs kept apart to choose the epoch by; 0: none is, and the last epoch is taken."""
    max_micrographs: int = Field(500, ge=1)
    """Micrographs used at most, drawn by chance."""

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if bool(self.particles) == bool(self.picks):
            raise ValueError("give either picks or particles to topaz_train")
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


def run(job: Job[Params]) -> None:
    """Write model.sav, model.json (what it was trained with), training.tsv (the curve) and topaz.json (program, version, arguments)."""
    program = find_program("topaz", job.params.executable)
    known = _known(job)
    work = (job.folder / WORK).absolute()
    work.mkdir()
    desk = Desk(program, work, job.device, job.threads)
    labels, pixel_size = _put(job, desk, known)
    train, test = _split(job, labels)
    options = _options(job.params, test is not None)
    prepare = desk.normalise([whole_file(number) for number in labels.pixels])
    desk.run(prepare)
    share = _share_to_tell(job, desk, train, options)
    train_it = desk.command("train", [*options, f"--num-epochs={job.params.epochs}", f"--pi={share:.6g}"])
    record_program(job.folder / "topaz.json", program, [prepare, train_it])
    desk.run(train_it)
    curve = read_curve(work / CURVE)
    epoch = chosen_epoch(curve)
    _keep(job, work, epoch, pixel_size)
    shutil.rmtree(work)
    _report(job, curve, epoch, labels, test)


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


def chosen_epoch(curve: pd.DataFrame) -> int:
    """The epoch with the largest area under precision over recall where micrographs were kept apart, the first of equals; else the last."""
    tested = curve[(curve["split"] == "test") & curve["auprc"].notna()]
    return int(tested["epoch"].loc[tested["auprc"].idxmax()] if len(tested) else curve["epoch"].max())


def pixels_of_disc(radius: int) -> int:
    """Pixels of which a disc around a pixel consists."""
    side = np.arange(-radius, radius + 1)
    return int((side[:, None] ** 2 + side**2 <= radius**2).sum())


def _known(job: Job[Params]) -> pd.DataFrame:
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


def _put(job: Job[Params], desk: Desk, known: pd.DataFrame) -> tuple[Labels, float]:
    """(labels of all micrographs, Å per pixel of the smaller ones, which then lie before Topaz)."""
    pixel_size, factor = float(known["micrograph_pixel_size"].iloc[0]), job.params.downsampling
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


def _split(job: Job[Params], labels: Labels) -> tuple[Labels, Labels | None]:
    """(labels to train with, those kept apart, if any), with the lists that Topaz reads of both."""
    numbers = job.numpy_generator("test").permutation(list(labels.pixels)).tolist()
    apart = max(1, round(job.params.test_fraction * len(numbers))) if job.params.test_fraction else 0
    if apart >= len(numbers):
        job.warn("there are too few micrographs to keep one apart, so the last epoch is taken")
        apart = 0
    train, test = labels.of(numbers[apart:]), labels.of(numbers[:apart]) if apart else None
    for name, part in (("train", train), ("test", test)):
        if part:
            _write_lists(job.folder / WORK, name, part)
    return train, test


def _write_lists(folder: Path, name: str, labels: Labels) -> None:
    images = [{"image_name": name_of(number), "path": normalised(whole_file(number))} for number in labels.pixels]
    pd.DataFrame(images).to_csv(folder / f"{name}_images.txt", sep="\t", index=False)
    targets = pd.DataFrame({"image_name": labels.table["number"].map(name_of), "x_coord": labels.table["x"], "y_coord": labels.table["y"]})
    targets.to_csv(folder / f"{name}_targets.txt", sep="\t", index=False)


def _options(params: Params, tested: bool) -> list[str]:
    """Options of `topaz train` that all its runs have; one process draws the crops, since several would draw the same ones."""
    lists = [
        f"--{name}-{what}={name}_{what}.txt" for name in (("train", "test") if tested else ("train",)) for what in ("images", "targets")
    ]
    network = [f"--model={params.architecture}", f"--units={params.units}", *([] if params.pretrained else ["--no-pretrained"])]
    steps = [f"--radius={params.radius}", f"--epoch-size={params.updates}", f"--learning-rate={params.learning_rate:g}", "--num-workers=0"]
    return [*lists, *network, *steps, f"--save-prefix={PREFIX}", f"--output={CURVE}", *params.arguments]


def _share_to_tell(job: Job[Params], desk: Desk, train: Labels, options: Sequence[str]) -> float:
    """The share of particle pixels (pi) that makes Topaz expect as many particles as are.

    Topaz takes the share of labelled pixels, as it counts them, off pi, and expects the rest among the unlabelled. It counts discs;
    versions 0.3 count each pixel of a disc 2 radius + 1 times, and so they do for `--num-particles`. A run of no epochs tells its count.
    """
    expected = job.params.expected_particles
    if expected <= train.per_micrograph:
        raise InputError(
            f"job {job.name}: expected_particles is {expected:g}, but {train.per_micrograph:.1f} particles of a micrograph are given "
            f"on average; tell how many there are in truth, known or not"
        )
    disc = pixels_of_disc(job.params.radius) / (sum(train.pixels.values()) / len(train.pixels))
    said: list[str] = []
    desk.run(desk.command("train", [*options, "--num-epochs=0", "--pi=0.5"]), heard=said.append)
    counted = next((float(found[1]) for line in said if (found := COUNTED.match(line))), None)
    if counted is None:
        raise InputError("topaz train did not tell the share of pixels that are labelled")
    return counted + (expected - train.per_micrograph) * disc


def _keep(job: Job[Params], work: Path, epoch: int, pixel_size: float) -> None:
    """Model of an epoch, what it was trained with, and the whole curve, into the job's folder."""
    found = next((path for path in work.glob(f"{PREFIX}_epoch*.sav") if int(path.stem.removeprefix(f"{PREFIX}_epoch")) == epoch), None)
    if found is None:
        raise InputError(f"topaz train wrote no model of epoch {epoch}")
    shutil.move(found, job.folder / "model.sav")
    shutil.move(work / CURVE, job.folder / "training.tsv")
    told = {"downsampling": job.params.downsampling, "pixel_size": pixel_size, "architecture": job.params.architecture, "epoch": epoch}
    (job.folder / "model.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def _report(job: Job[Params], curve: pd.DataFrame, epoch: int, labels: Labels, test: Labels | None) -> None:
    job.metric("micrographs", len(labels.pixels))
    job.metric("known particles", len(labels.table))
    job.metric("epoch", epoch)
    caption = (
        "Left: loss of every step. Right: how well known particles of the micrographs kept apart are told from all else. Red: epoch chosen."
    )
    if test:
        best = curve[(curve["split"] == "test") & (curve["epoch"] == epoch)].iloc[-1]
        job.metric("test micrographs", len(test.pixels))
        job.metric("test area under precision and recall", float(best["auprc"]))
    draw_training(job.figure("training", "Training", caption), curve, epoch)
