"""Picking in one micrograph: correlate it with shapes, take the maxima of the match.

Convention: points are yx in pixels of the micrograph as stored; lengths in Å. Templates are white protein, filtered by the micrograph's CTF and by the filters the micrograph got.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from firn.kernels.correlate import best_templates, local_correlation
from firn.kernels.ctf import ctf_2d
from firn.kernels.fourier import frequencies2
from firn.kernels.peaks import local_maxima, refine_maxima, separate
from firn.kernels.templates import band_filter, disc_mask, filter_images
from firn.preprocess.reduced import BACKGROUND, Reduced

MARGIN = 1.5
"""Diameter of the mask that a template is normalised in, in diameters of the template: particle and surround have like areas."""


@dataclass(frozen=True)
class Shape:
    """Templates `(t, n, n)` that are turns of one shape at the picking pixel size, their angles in degrees, its diameter in Å."""

    templates: Tensor
    angles: Tensor
    diameter: float


@dataclass(frozen=True)
class Scene:
    """What is looked for in a micrograph, on its clean pixels; factors: filters and CTF, on the spectra of the shapes' boxes of one size."""

    reduced: Reduced
    shapes: list[Shape]
    clean: Bool[Tensor, "y x"]
    factors: Float[Tensor, "n f"]


@dataclass(frozen=True)
class Picks:
    """Picks of one micrograph, best first: points `(n, 2)` yx, score, power, index of the shape, angle of the template."""

    points: Tensor
    score: Tensor
    power: Tensor
    shape: Tensor
    angle: Tensor


def template_box(diameter: float, pixel_size: float) -> int:
    """Side of the box that templates of a diameter are drawn in: even, room for fringes while they are filtered."""
    return 2 * round(diameter * BACKGROUND / pixel_size / 2 + 4)


def template_factors(
    box: int, pixel_size: float, low_pass: float, diameter: float, ctf: tuple[float, ...] | None, device: torch.device | str = "cpu"
) -> Float[Tensor, "n f"]:
    """Factors on a template's spectrum: the micrograph's filters, and its CTF when the arguments of ctf_2d are given."""
    filters = band_filter((box, box), pixel_size, low_pass, BACKGROUND * diameter, device)
    return filters if ctf is None else filters * ctf_2d(frequencies2((box, box), device) / pixel_size, *ctf)[0]


def pick(scene: Scene, separation: float, edge: float, limit: int) -> Picks:
    """Maxima of the best match over all shapes, at least `separation` Å apart and `edge` Å inside the micrograph.

    Shapes compete by correlation (NCC), places by the matched filter's output: correlation times the root of the local power.
    """
    reduced, groups = scene.reduced, _alike(scene.shapes)
    maps = [_Match.make(replace(scene, shapes=[scene.shapes[number] for number in numbers])) for numbers in groups]
    score, which = torch.stack([match.score for match in maps]).max(0)
    inside = _inside(score.shape, edge / reduced.pixel_size, score.device)
    power = torch.stack([match.power for match in maps]).gather(0, which[None])[0]
    strength = score.clamp(min=0) * power.sqrt()
    peaks = local_maxima(strength, scene.clean & inside, 0.0)
    peaks = peaks[separate(peaks.to(score.dtype), separation / reduced.pixel_size, limit)]
    at = peaks[:, 0], peaks[:, 1]
    shape, angle = torch.zeros_like(which[at]), torch.zeros_like(score[at])
    for number, match in enumerate(maps):
        mine = which[at] == number
        shape[mine], angle[mine] = match.identify(peaks[mine], torch.tensor(groups[number], device=score.device))
    places = refine_maxima(strength, peaks) * torch.tensor(reduced.stride, dtype=score.dtype, device=score.device)
    return Picks(places, score[at], power[at], shape, angle)


def best_scores(scene: Scene) -> Float[Tensor, "y x"]:
    """Best correlation (NCC) over shapes of one diameter laid on each pixel."""
    return _Match.make(scene).score


def _alike(shapes: list[Shape]) -> list[list[int]]:
    """Numbers of the shapes of each diameter: these share a mask."""
    groups: dict[float, list[int]] = {}
    for number, shape in enumerate(shapes):
        groups.setdefault(shape.diameter, []).append(number)
    return list(groups.values())


@dataclass(frozen=True)
class _Match:
    """Shapes of one diameter laid on a micrograph: best score and local variance at every pixel, and who scored."""

    score: Tensor
    power: Tensor
    image: Tensor
    clean: Tensor
    templates: Tensor
    mask: Tensor
    shapes: list[Shape]

    @classmethod
    def make(cls, scene: Scene) -> "_Match":
        reduced, clean, shapes = scene.reduced, scene.clean, scene.shapes
        diameter, box = shapes[0].diameter * MARGIN, shapes[0].templates.shape[-1]
        side = min(_odd(diameter / reduced.pixel_size), box - 1)
        mask = disc_mask(diameter, side, reduced.pixel_size, device=reduced.image.device)
        first = box // 2 - side // 2
        filtered = filter_images(torch.cat([shape.templates for shape in shapes]), scene.factors)
        templates = filtered[..., first : first + side, first : first + side]
        return cls(*local_correlation(reduced.image, clean, templates, mask), reduced.image, clean, templates, mask, shapes)

    def identify(self, peaks: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """(number of the shape, angle) that scored at each pixel; numbers are those of this match's shapes."""
        best = best_templates(self.image, self.clean, self.templates, self.mask, peaks)
        turns = torch.tensor([len(shape.angles) for shape in self.shapes], device=peaks.device)
        return numbers.repeat_interleave(turns)[best], torch.cat([shape.angles for shape in self.shapes])[best]


def _inside(shape: torch.Size, margin: float, device: torch.device) -> Tensor:
    y, x = (torch.arange(n, device=device) for n in shape)
    near_y, near_x = torch.minimum(y, shape[0] - 1 - y), torch.minimum(x, shape[1] - 1 - x)
    return torch.minimum(near_y[:, None], near_x[None, :]) >= margin


def _odd(length: float) -> int:
    return 2 * int(length / 2) + 1
