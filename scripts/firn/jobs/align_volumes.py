"""Lay one map on another: find rotation, shift and hand, and carry half maps, mask and particle poses along."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from firn.errors import InputError
from firn.families.map_files import given_mask
from firn.formats.fsc import fsc_table, write_fsc
from firn.formats.mrc import write_volume
from firn.formats.poses import read_angles, read_shifts, with_poses
from firn.formats.tables import read_table, write_table
from firn.formats.volumes import read_volume
from firn.kernels.align_volumes import Placement, align, place
from firn.kernels.box import crop_or_pad, mirror
from firn.kernels.expansion import carried_poses
from firn.kernels.fourier import resize_volumes
from firn.kernels.fsc import fsc, resolution_at
from firn.kernels.rotation import euler_matrices, matrix_angles, rotation_distance
from firn.refine.given_poses import mirrored_rotations
from firn.refine.validation import molecule_mask
from firn.report.volumes import draw_slice_pairs, draw_surfaces, surface_level
from firn.runtime.job import Job
from firn.runtime.params import JobParams, Kind, Lane, slot

NEAR, FAR = 6.0, 14.0
"""Å. Where the masks that keep noise out of the search start to fall and end."""


class Params(JobParams):
    """Move a map onto a reference by the correlation of their Fourier coefficients, over all rotations, shifts and both hands."""

    stage: ClassVar[str] = "utilities"
    lane: ClassVar[Lane] = "reconstruct"
    reads_images: ClassVar[bool] = False
    offers: ClassVar[tuple[Kind, ...]] = ("volume", "particles", "mask")
    volume: str = slot("volume")
    """Map to move."""
    reference: str = slot("volume")
    """Map to move it onto; its box and pixel size are taken over."""
    mask: str | None = slot("mask", optional=True)
    """Mask of the part of the reference to align by; none = made from the reference."""
    particles: str | None = slot("particles", optional=True)
    """Particles whose poses belong to the map to move; they are changed to fit it after the move."""
    resolution: float = Field(6.0, gt=0)
    """Å. Finest detail compared."""
    both_hands: bool = True
    """Try the mirror image too, and take it if it fits better."""


def run(job: Job[Params]) -> None:
    """Read, search, move, write."""
    target, pixel_size = read_volume(job.input("reference", "map.mrc"))
    if pixel_size <= 0:
        raise InputError(f"{job.input('reference', 'map.mrc')}: names no pixel size; import it again with pixel_size")
    reference = torch.tensor(target, device=job.device)
    volume = _like_reference(job, "map", reference.shape[0], pixel_size)
    companions = [name for name in ("half1", "half2", "mask") if job.input("volume", f"{name}.mrc").exists()]
    others = {name: _like_reference(job, name, reference.shape[0], pixel_size) for name in companions}
    found, mirrored = _search(job, volume, reference, pixel_size)
    moved = _moved(volume, found, mirrored)
    write_volume(job.folder / "map.mrc", moved.cpu().numpy(), pixel_size)
    for name, other in others.items():
        turned = _moved(other, found, mirrored)
        write_volume(job.folder / f"{name}.mrc", (turned.clamp(0, 1) if name == "mask" else turned).cpu().numpy(), pixel_size)
    if job.has("particles"):
        _move_particles(job, found, mirrored, pixel_size)
    _report(job, moved, reference, found, pixel_size)


def _like_reference(job: Job[Params], name: str, side: int, pixel_size: float) -> Tensor:
    """A map of the folder to move, brought to the reference's pixel size and box."""
    path = job.input("volume", f"{name}.mrc")
    array, own = read_volume(path)
    if not array.any():
        raise InputError(f"{path}: the map is empty")
    volume = torch.tensor(array, device=job.device)
    if own > 0 and abs(own - pixel_size) > 0.002 * pixel_size:
        volume = resize_volumes(volume, round(volume.shape[0] * own / pixel_size))
    return crop_or_pad(volume, side)


def _search(job: Job[Params], volume: Tensor, reference: Tensor, pixel_size: float) -> tuple[Placement, bool]:
    """The better of the hands' placements, and whether it is the mirrored one."""
    if job.params.resolution < 2 * pixel_size:
        job.warn(f"The resolution of {job.params.resolution:g} Å is beyond two pixels, {2 * pixel_size:g} Å, which are used.")
    radius = reference.shape[0] * pixel_size / job.params.resolution
    fixed = reference * _mask(job, reference, pixel_size)
    moving = volume * molecule_mask(volume, pixel_size, NEAR, FAR, components=None)
    for part, side in ((moving, "volume"), (fixed, "reference")):
        if not bool(part.any()):
            raise InputError(f"{job.input(side, 'map.mrc')}: nothing stands out of its noise that could be aligned")
    hands = (False, True) if job.params.both_hands else (False,)
    found = []
    for hand in job.over(hands, "hands"):
        found.append(align(mirror(moving) if hand else moving, fixed, radius))
    best = max(range(len(found)), key=lambda number: found[number].correlation)
    job.metric("correlation", found[best].correlation)
    if len(found) > 1:
        job.metric("correlation_other_hand", found[1 - best].correlation)
        job.metric("mirrored", float(best == 1))
    return found[best], best == 1


def _mask(job: Job[Params], reference: Tensor, pixel_size: float) -> Tensor:
    if not job.has("mask"):
        return molecule_mask(reference, pixel_size, NEAR, FAR, components=None)
    return given_mask(job, reference.shape[0], pixel_size)


def _moved(volume: Tensor, found: Placement, mirrored: bool) -> Tensor:
    return place(mirror(volume) if mirrored else volume, found.rotation, found.shift)


def _move_particles(job: Job[Params], found: Placement, mirrored: bool, pixel_size: float) -> None:
    path = job.input("particles", "particles.star")
    table = read_table(path, "particles")
    rotations = euler_matrices(torch.tensor(read_angles(table, str(path))))
    rotations = mirrored_rotations(rotations) if mirrored else rotations
    turned, shifts = carried_poses(rotations, torch.tensor(read_shifts(table, 1.0)), found.rotation.cpu(), found.shift.cpu() * pixel_size)
    write_table(job.folder / "particles.star", with_poses(table, matrix_angles(turned).numpy(), shifts.numpy()), "particles")


def _report(job: Job[Params], moved: Tensor, reference: Tensor, found: Placement, pixel_size: float) -> None:
    side = reference.shape[0]
    mask = _mask(job, reference, pixel_size)
    curve = fsc(moved * mask, reference * mask)
    write_fsc(job.folder / "fsc.star", fsc_table({"model": curve.cpu().numpy()}, side, pixel_size))
    job.metric("rotation", float(rotation_distance(found.rotation, torch.eye(3).to(found.rotation))), "degrees")
    job.metric("shift", float(found.shift.norm()) * pixel_size, "Å")
    job.metric("resolution_half", resolution_at(curve, 0.5, pixel_size, side), "Å")
    after, before = moved.cpu().numpy(), reference.cpu().numpy()
    caption = "Central slices of the reference and of the map moved onto it: they should show the same features at the same places."
    draw_slice_pairs(job.figure("slices", "Reference and aligned map", caption), before, after, pixel_size, ("reference", "aligned"))
    caption = "Surface of the aligned map, seen along the three axes."
    inside = mask.cpu().numpy()
    draw_surfaces(job.figure("surface", "Aligned map", caption), after * inside, surface_level(after, inside))
