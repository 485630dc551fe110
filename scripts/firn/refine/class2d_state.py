"""What 2D classification works on and hands on: particles, plan, state after an iteration, assignment; packed for a checkpoint."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from firn.kernels.fourier import fast_size
from firn.kernels.rotate2d import HalfDisc
from firn.refine.class2d_average import Averages, ClassSums, soft_circle
from firn.refine.class2d_search import Match
from firn.refine.state import moved_to

MARGIN = 5
"""Shells beyond an average's reach in which particles are added up but not compared, so that half-sets agree there by signal alone."""


class Particles(Protocol):
    """Masked particle spectra by number; at most PARTICLES_AT_ONCE are asked for at once."""

    half: Int[Tensor, " n"]
    """Half-set, 0 or 1."""

    def take(self, rows: Int[Tensor, " b"]) -> tuple[Complex[Tensor, "b f"], Float[Tensor, "b f"]]:
        """(spectra divided by the box side, CTFs) at the points of the plan's disc."""
        ...


@dataclass(frozen=True)
class Plan:
    """What to do; see the parameters of classify_2d."""

    disc: HalfDisc
    """Points that are read: of the finest detail that is compared, and a margin."""
    box_px: int
    finest: int
    """Fourier radius of the finest detail that is compared."""
    classes: int
    iterations: int
    final_iterations: int
    batch_size: int
    first_radius: float
    mask_radius_px: float
    mask_edge_px: float
    shift_reach_px: float
    angular_step: float | None = None
    least_radius: float = 0.0
    uncertainty: float = 2.0
    anneal_start: int = 2
    anneal_length: int = 15
    recentre: bool = True
    recentre_threshold: float = 0.2
    use_frc: bool = True
    force_max: bool = True
    pad: int = 2
    unexplained: bool = True

    @property
    def last_radius(self) -> int:
        """Radius of the whole disc."""
        return int(self.disc.shells[-1])

    @property
    def side(self) -> int:
        """Side of the references: the particle's box, Fourier-cropped to the disc."""
        return min(fast_size(2 * self.last_radius + 4), self.box_px)

    def gathered(self, reach: Int[Tensor, " k"]) -> int:
        """Fourier radius up to which particles are added up for averages of such reaches: MARGIN beyond the farthest, within the disc."""
        return min(int(reach.max()) + MARGIN, self.last_radius)

    def mask(self) -> Float[Tensor, "n n"]:
        """Circular mask of the references."""
        ratio = self.side / self.box_px
        return soft_circle(self.side, self.mask_radius_px * ratio, self.mask_edge_px * ratio, self.disc.points.device)


class Step(NamedTuple):
    """How one iteration went."""

    radius: int
    """Farthest that an average was compared."""
    resolved_radius: float
    """Count-weighted mean of the classes' resolved shells."""
    changed: float
    """Fraction of the particles seen that are in another class than when seen before."""
    effective_classes: float
    """Mean over particles of 1 / sum of squared class probabilities."""
    temper: float
    rise: float
    """Share of the evidence by which the particles seen are better explained than when seen before; of those not seen before, all of it."""
    reach: float
    """Count-weighted mean of the Fourier radii up to which averages were compared."""
    unexplained: float
    """Share of particles that no average explains, as known after the iteration."""
    settling: bool
    """Whether classes were no longer parted, and particles counted only as far as explained; so too in a final pass."""


class Change(NamedTuple):
    """How a batch's matches differ from those that its particles had before."""

    moved: float
    """Particles in another class."""
    gained: float
    """Nats by which all of them together are better explained."""


@dataclass
class State:
    """Everything that an iteration hands to the next."""

    sums: ClassSums
    noise: Float[Tensor, " s"]
    """Variance per shell of a spectral component of unmasked noise."""
    averages: Averages
    reach: Int[Tensor, " k"]
    """Fourier radius up to which each average is compared with particles."""
    unexplained: float = 0.1
    """Share of particles that no average explains, as far as known: few, until the averages are good enough to tell."""
    steps: list[Step] = field(default_factory=list)


@dataclass
class Assignment:
    """One row per particle; class_number is 0-based, -1 before the particle was seen, and the number of classes where none explains it."""

    class_number: Int[Tensor, " n"]
    probability: Float[Tensor, " n"]
    effective_classes: Float[Tensor, " n"]
    angle: Float[Tensor, " n"]
    shift: Float[Tensor, "n 2"]
    """yx pixels of the particle from the centre of its image."""
    gain: Float[Tensor, " n"]
    """Nats by which the average explains the particle better than nothing does."""

    @classmethod
    def empty(cls, count: int, device: torch.device) -> "Assignment":
        """Nobody assigned."""
        zeros = torch.zeros(count, device=device)
        return cls(
            torch.full((count,), -1, device=device),
            zeros,
            zeros.clone(),
            zeros.clone(),
            torch.zeros(count, 2, device=device),
            zeros.clone(),
        )

    def store(self, rows: Int[Tensor, " b"], match: Match) -> Change:
        """Write a batch's matches; what changed by them."""
        probability, number = match.class_probability.max(-1)
        explained = match.explained >= 0.5
        number = torch.where(explained, number, match.class_probability.shape[-1])
        probability = torch.where(explained, probability * match.explained, 1 - match.explained)
        gain = match.gain * explained
        change = Change(float((self.class_number[rows] != number).sum()), float((gain - self.gain[rows]).sum()))
        self.class_number[rows], self.probability[rows] = number, probability
        self.effective_classes[rows] = 1 / match.class_probability.square().sum(-1)
        self.angle[rows], self.shift[rows], self.gain[rows] = match.angle, match.shift, gain
        return change


def packed(state: State, assignment: Assignment) -> dict[str, Any]:
    """Tensors and numbers alone."""
    return {
        "sums": vars(state.sums),
        "noise": state.noise,
        "averages": vars(state.averages),
        "reach": state.reach,
        "unexplained": state.unexplained,
        "steps": [tuple(step) for step in state.steps],
        "assignment": vars(assignment),
    }


def unpacked(kept: dict[str, Any], device: torch.device) -> tuple[State, Assignment, Tensor]:
    """(state, assignment, queue) of what was packed."""
    parts = moved_to({name: kept[name] for name in ("sums", "noise", "averages", "reach", "assignment")}, device)
    steps = [Step(*step) for step in kept["steps"]]
    state = State(
        ClassSums(**parts["sums"]),
        parts["noise"],
        Averages(**parts["averages"]),
        parts["reach"],
        kept["unexplained"],
        steps,
    )
    return state, Assignment(**parts["assignment"]), kept["queue"]
