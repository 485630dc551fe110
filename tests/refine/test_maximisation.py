"""Back-projection weighted by the posterior."""

import torch
from torch import Tensor

from firn.kernels.fourier import rfft2
from firn.kernels.pose_grid import all_nodes
from firn.refine.expectation import Candidates, Posterior
from firn.refine.maximisation import Accumulator

SIDE, RADIUS, ORDER = 24, 6.0, 3


def posterior(nodes: Tensor) -> Posterior:
    """One image, whose orientations at nodes `(c,)` are all alike, without a shift."""
    count = len(nodes)
    candidates = Candidates(nodes[None], torch.ones(1, count, dtype=torch.bool), torch.zeros(1, 1, 2), torch.ones(1, 1, dtype=torch.bool))
    return Posterior(candidates, torch.full((1, 1, count), 1 / count), ORDER, torch.ones(1), torch.zeros(1))


def sums(image: Tensor, parts: list[Tensor]) -> Tensor:
    """Mean over parts of nodes of what an image adds to the weights of a map."""
    accumulator = Accumulator(SIDE, RADIUS, torch.ones(1, SIDE // 2 + 1), ORDER, None)
    ctf = torch.ones(1, len(accumulator.disc.points))
    for nodes in parts:
        accumulator.add(posterior(nodes), image, ctf, torch.zeros(1, dtype=torch.long))
    return accumulator.completed(torch.eye(3)[None])[1] / len(parts)


def test_an_image_that_could_be_seen_from_anywhere_is_added_in_all_its_orientations():
    chance = torch.Generator().manual_seed(3)
    every = all_nodes(ORDER, "C1", torch.device("cpu"))
    nodes = every[torch.randperm(len(every), generator=chance)[:512]]
    image = rfft2(torch.randn(1, SIDE, SIDE, generator=chance))
    whole, parts = sums(image, [nodes]), sums(image, list(nodes.split(32)))
    assert float((whole - parts).norm() / parts.norm()) < 0.1
