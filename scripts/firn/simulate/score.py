"""How far results are from the truth: picks, defocus, motion, poses.

Convention: distances in the units of the coordinates given; angles in degrees; a pose is the matrix R of r_volume = R r_image.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from firn.simulate.euler import rotation_angle

MIRROR = np.diag([1.0, 1.0, -1.0])
CONSENSUS_ANGLE = 15.0
"""Degrees within which two poses are taken to agree while the common rotation is sought."""


@dataclass(frozen=True)
class PoseScore:
    """errors `(n,)` in degrees after the best common rotation `(3, 3)` (volume of the truth to that of the result) and hand."""

    errors: np.ndarray
    rotation: np.ndarray
    mirrored: bool


def match_points(truth: np.ndarray, found: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """(indices of truths, indices of finds) paired one to one within a distance, as many pairs as can be, then the closest."""
    if len(truth) == 0 or len(found) == 0:
        return np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    apart = cdist(truth, found)
    cost = np.where(apart <= distance, apart - 1e3 * distance, 0.0)
    rows, columns = linear_sum_assignment(cost)
    kept = apart[rows, columns] <= distance
    return rows[kept], columns[kept]


def precision_recall(matched: int, found: int, true: int) -> tuple[float, float, float]:
    """(precision, recall, F1); NaN where nothing was found or nothing is true."""
    precision = matched / found if found else float("nan")
    recall = matched / true if true else float("nan")
    return precision, recall, 2 * matched / (found + true) if found + true else float("nan")


def astigmatism_vector(defocus_u: np.ndarray, defocus_v: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """(u - v) as a vector of twice the angle `(n, 2)`, in which nearly round fits are near whatever their angle."""
    twice = np.deg2rad(2 * angle)
    return (defocus_u - defocus_v)[:, None] * np.stack((np.cos(twice), np.sin(twice)), axis=-1)


def spline_displacement(coefficients: np.ndarray, times: np.ndarray, points_yx: np.ndarray) -> np.ndarray:
    """Values `(f, n, 2)` of a cubic B-spline with coefficients `(ct, cy, cx, 2)` on uniform knots over [0, 1]^3, at times `(f,)`."""
    time, y, x = (
        _basis(where, count) for where, count in zip((times, points_yx[:, 0], points_yx[:, 1]), coefficients.shape[:3], strict=True)
    )
    return np.einsum("ft,ny,nx,tyxc->fnc", time, y, x, coefficients)


def motion_residual(estimated: np.ndarray, true: np.ndarray) -> tuple[float, np.ndarray]:
    """(root mean square residual, offset `(n, 2)`) of displacements `(frames, n, 2)`.

    The offset is the mean over frames at each point: it moves the sum but does not blur it, so the residual leaves it out.
    """
    difference = estimated - true
    offset = difference.mean(axis=0)
    return float(np.sqrt(np.mean(np.sum((difference - offset) ** 2, axis=-1)))), offset


def score_poses(estimated: np.ndarray, true: np.ndarray, operators: np.ndarray, both_hands: bool = True) -> PoseScore:
    """Pose errors of matrices `(n, 3, 3)`, free of a common rotation, of symmetry operators `(g, 3, 3)`, and of the hand."""
    hands = (False, True) if both_hands else (False,)
    scores = [_score_hand(estimated, MIRROR @ true @ MIRROR if hand else true, operators, hand) for hand in hands]
    return min(scores, key=lambda score: float(np.median(score.errors)))


def origin_errors(estimated: np.ndarray, true: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Distances `(n,)` of origins `(n, 2)` after the common shift of the volume that explains most, by least squares."""
    design = poses.transpose(0, 2, 1)[:, :2].reshape(-1, 3)
    difference = (estimated - true).reshape(-1)
    shift, *_ = np.linalg.lstsq(design, difference, rcond=None)
    return np.linalg.norm((difference - design @ shift).reshape(-1, 2), axis=1)


def _basis(where: np.ndarray, count: int) -> np.ndarray:
    """Design matrix `(n, count)` of uniform cubic B-splines over [0, 1]."""
    knots = (np.arange(count + 4) - 3) / (count - 3)
    return BSpline.design_matrix(np.clip(where, 0, 1 - 1e-12), knots, 3).toarray()


def _score_hand(estimated: np.ndarray, true: np.ndarray, operators: np.ndarray, mirrored: bool) -> PoseScore:
    operators = MIRROR @ operators @ MIRROR if mirrored else operators
    rotation = _consensus(estimated, true, operators)
    for _ in range(5):
        images = _nearest(estimated, true, operators, rotation)
        errors = rotation_angle(estimated, rotation @ images)
        close = errors < max(CONSENSUS_ANGLE, float(np.median(errors)))
        rotation = Rotation.from_matrix(estimated[close] @ images[close].transpose(0, 2, 1)).mean().as_matrix()
    images = _nearest(estimated, true, operators, rotation)
    return PoseScore(rotation_angle(estimated, rotation @ images), rotation, mirrored)


def _consensus(estimated: np.ndarray, true: np.ndarray, operators: np.ndarray) -> np.ndarray:
    """Of the rotations that single particles suggest, the one that most of a sample agree with."""
    sample = np.linspace(0, len(true) - 1, min(len(true), 150)).astype(int)
    proposals = estimated[sample] @ true[sample].transpose(0, 2, 1)
    agreeing = [
        np.sum(
            rotation_angle(estimated[sample], proposal @ _nearest(estimated[sample], true[sample], operators, proposal)) < CONSENSUS_ANGLE
        )
        for proposal in proposals
    ]
    return proposals[int(np.argmax(agreeing))]


def _nearest(estimated: np.ndarray, true: np.ndarray, operators: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Of the symmetry copies g R of each true pose, the one nearest to the estimate: largest trace of R_est^T Q g R."""
    relative = np.einsum("ji,njk,nlk->nil", rotation, estimated, true)
    return operators[np.einsum("gij,nij->ng", operators, relative).argmax(axis=1)] @ true
