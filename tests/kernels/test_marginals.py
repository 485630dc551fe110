"""The product of scores that keeps only marginals, on a GPU or else in Triton's interpreter, beside its definition."""

import os
import sys

import pytest
import torch

from firn.kernels.half_precision import half_columns, half_rows
from firn.kernels.score import fast_marginals, marginals_, score_halves

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu" and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton is not installed; it comes with PyTorch for CUDA")


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("images", "shifts", "nodes", "points"), [(9, 9, 70, 20), (3, 37, 150, 33), (2, 70, 64, 48), (1, 1, 1, 5)])
def test_marginals_are_those_of_the_scores(images: int, shifts: int, nodes: int, points: int, scaled: bool):
    chance = torch.Generator().manual_seed(images)
    split = torch.tensor([0, 3], device=DEVICE)
    rows = half_rows(1e3 * torch.randn(images, shifts, 2 * points, generator=chance).to(DEVICE), split)
    columns = half_columns(1e-3 * torch.randn(nodes, 2 * points, generator=chance).to(DEVICE), split)
    norms, prior = (sign * torch.rand(images, count, generator=chance).to(DEVICE) for sign, count in ((5, nodes), (-3, shifts)))
    expected = marginals_(score_halves(rows, columns, norms, scaled) + prior[:, :, None], 0.6)
    found = fast_marginals(rows, columns, norms, prior, 0.6, scaled)
    for part, known in zip(found, expected, strict=True):
        assert torch.allclose(part, known, rtol=1e-4, atol=1e-6)


def test_scores_far_below_and_far_above_zero_leave_probabilities():
    chance = torch.Generator().manual_seed(2)
    split = torch.zeros(0, dtype=torch.long, device=DEVICE)
    rows = half_rows(torch.randn(2, 9, 40, generator=chance).to(DEVICE), split)
    columns = half_columns(torch.randn(130, 40, generator=chance).to(DEVICE), split)
    norms = (torch.tensor([[-3e4], [3e4]]) + 10 * torch.rand(2, 130, generator=chance)).to(DEVICE)
    expected = marginals_(score_halves(rows, columns, norms, scaled=True), 1.0)
    found = fast_marginals(rows, columns, norms, torch.zeros(2, 9, device=DEVICE), 1.0, scaled=True)
    assert torch.allclose(found[0], expected[0], atol=1e-3)
    assert torch.allclose(found[1], expected[1], atol=1e-3)
    assert torch.allclose(found[2], expected[2], rtol=1e-6)
