"""One exposure before it moves: where particles lie, how far out of focus, and the contrast of protein and ice.

Convention: contrast is the relative change of intensity, -2 CTF * phase in the weak-phase approximation, so protein is dark
at low resolution. Images are drawn on a canvas with a margin, so that drift brings in what lies outside the frame.
The defocus plane is mean + slope_x u + slope_y v in Å, u, v = -1 ... 1 across width and height.
Source: weak phase object as in Reimer & Kohl, Transmission Electron Microscopy; displaced ice and its noise as white at low
frequency with the compressibility of water and the smearing of McMullan, Henderson et al., Ultramicroscopy 158, 26 (2015).
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from firn.simulate.ctf import Optics, contrast_transfer, envelope, frequency_grid
from firn.simulate.euler import euler_to_matrix
from firn.simulate.specimen import Specimen, project

ICE_SCATTERING = 3.04
"""Å. Scattering amplitude of a water molecule."""
ICE_DENSITY = 0.0311
"""Water molecules per Å³ of vitreous ice."""
ICE_STRUCTURE = 0.1
"""Structure factor of water at low frequency: how much less it fluctuates than a gas."""
ICE_SMEAR = 1.2
"""Å. Blur of the ice by the motion of its molecules in the beam."""
TRIES = 60
"""Random places tried per particle."""
DEFOCUS_STEP = 250.0
"""Å between the defocus levels among which tilted ice is interpolated."""


@dataclass(frozen=True)
class Scene:
    """What lies in one exposure. centres `(n, 2)` xy in px of the frame, angles `(n, 3)`, defocus `(n, 3)` = u, v, angle."""

    centres: np.ndarray
    angles: np.ndarray
    defocus: np.ndarray
    class_numbers: np.ndarray
    mean_defocus: tuple[float, float, float]
    slope: tuple[float, float]


@dataclass(frozen=True)
class Canvas:
    """Frame `(height, width)` inside a larger canvas; the frame's pixel (0, 0) is the canvas pixel (margin, margin)."""

    height: int
    width: int
    margin: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) with margins, enlarged to fast transform sizes."""
        sides = [scipy.fft.next_fast_len(side + 2 * self.margin, real=True) for side in (self.height, self.width)]
        return sides[0], sides[1]


def place_particles(count: int, height: int, width: int, distance: float, margin: float, generator: np.random.Generator) -> np.ndarray:
    """Up to count centres `(n, 2)` xy in px, at least distance apart and margin off the edges (negative: beyond them)."""
    low, high = np.array([margin, margin]), np.array([width - 1 - margin, height - 1 - margin])
    if (high <= low).any() or count <= 0:
        return np.zeros((0, 2))
    kept = np.zeros((0, 2))
    for candidate in generator.uniform(low, high, (TRIES * count, 2)):
        if len(kept) == count:
            break
        if (np.sum((kept - candidate) ** 2, axis=1) >= distance**2).all():
            kept = np.concatenate((kept, candidate[None]))
    return kept


def local_defocus(scene_slope: tuple[float, float], uv: np.ndarray) -> np.ndarray:
    """Defocus offset in Å of the tilted plane at points `(..., 2)` uv."""
    return scene_slope[0] * uv[..., 0] + scene_slope[1] * uv[..., 1]


def protein_contrast(scene: Scene, specimens: list[Specimen], canvas: Canvas, optics: Optics, resolution: float) -> np.ndarray:
    """Undamaged contrast `(y, x)` float32 of all particles on the canvas; class_numbers count specimens from 1."""
    image = np.zeros(canvas.shape, dtype=np.float32)
    for centre, angles, defocus, number in zip(scene.centres, scene.angles, scene.defocus, scene.class_numbers, strict=True):
        specimen = specimens[int(number) - 1]
        box = particle_box(specimen.radius, float(defocus[0]), optics, resolution)
        corner = np.round(centre).astype(int)
        shift = (centre - corner) * optics.pixel_size
        small = min(box, int(scipy.fft.next_fast_len(int(2 * (specimen.radius + 3 * resolution) / optics.pixel_size) + 4, real=True)))
        phase = np.zeros((box, box), dtype=np.float32)
        _add(phase, project(specimen, euler_to_matrix(*angles), small, optics.pixel_size, (shift[0], shift[1])), np.array([box, box]) // 2)
        _add(image, imaged(phase, optics, tuple(defocus)), corner + canvas.margin)
    return image


def imaged(projection: np.ndarray, optics: Optics, defocus: tuple[float, float, float]) -> np.ndarray:
    """Contrast `(y, x)` of a projection in Å of amplitude per pixel, protein dark."""
    transfer = contrast_transfer(projection.shape, optics, *defocus) * envelope(projection.shape, optics)
    scale = -2 * optics.interaction / optics.pixel_size**2
    return scipy.fft.irfft2(scipy.fft.rfft2(projection) * (scale * transfer), s=projection.shape)


def particle_box(radius: float, defocus: float, optics: Optics, resolution: float) -> int:
    """px. Box that holds a particle and the rings that defocus spreads around it up to the resolution."""
    finest = 1 / max(resolution, 2 * optics.pixel_size)
    spread = optics.wavelength * defocus * finest
    return int(scipy.fft.next_fast_len(int(np.ceil(2 * (radius + spread) / optics.pixel_size)) + 4, real=True))


def ice_contrast(
    scene: Scene, canvas: Canvas, optics: Optics, thickness: float, strength: float, generator: np.random.Generator
) -> np.ndarray:
    """Contrast `(y, x)` float32 of ice of a thickness in Å; its Thon rings follow the tilted defocus plane."""
    shape = canvas.shape
    fy, fx = frequency_grid(shape, optics.pixel_size)
    molecules = ICE_DENSITY * thickness * optics.pixel_size**2
    phase = optics.interaction * ICE_SCATTERING / optics.pixel_size**2 * np.sqrt(molecules * ICE_STRUCTURE)
    smear = np.exp(-2 * np.pi**2 * ICE_SMEAR**2 * (fx**2 + fy**2)) * envelope(shape, optics)
    spectrum = scipy.fft.rfft2(generator.standard_normal(shape, dtype=np.float32)) * (-2 * phase * strength * smear)
    return _tilted(spectrum, scene, canvas, optics)


def _tilted(spectrum: np.ndarray, scene: Scene, canvas: Canvas, optics: Optics) -> np.ndarray:
    """CTF of the local defocus applied to a spectrum: images at a few levels, interpolated linearly between them."""
    offset = _defocus_map(scene.slope, canvas)
    reach = float(np.abs(offset).max())
    levels = np.linspace(-reach, reach, 1 + int(np.ceil(2 * reach / DEFOCUS_STEP)))
    u, v, angle = scene.mean_defocus
    image = np.zeros(canvas.shape, dtype=np.float32)
    for level in levels:
        at_level = scipy.fft.irfft2(spectrum * contrast_transfer(canvas.shape, optics, u + level, v + level, angle), s=canvas.shape)
        if len(levels) == 1:
            return at_level
        image += at_level * np.clip(1 - np.abs(offset - level) / (levels[1] - levels[0]), 0, 1)
    return image


def _defocus_map(slope: tuple[float, float], canvas: Canvas) -> np.ndarray:
    rows, columns = canvas.shape
    u = 2 * (np.arange(columns, dtype=np.float32) - canvas.margin) / max(canvas.width - 1, 1) - 1
    v = 2 * (np.arange(rows, dtype=np.float32) - canvas.margin) / max(canvas.height - 1, 1) - 1
    return slope[0] * u[None, :] + slope[1] * v[:, None]


def _add(image_: np.ndarray, patch: np.ndarray, centre_xy: np.ndarray) -> None:
    """Add a patch whose index n // 2 comes to lie on centre_xy, cut at the edges."""
    box, (rows, columns) = patch.shape[0], image_.shape
    left, top = int(centre_xy[0]) - box // 2, int(centre_xy[1]) - box // 2
    y0, y1, x0, x1 = max(top, 0), min(top + box, rows), max(left, 0), min(left + box, columns)
    if y1 > y0 and x1 > x0:
        image_[y0:y1, x0:x1] += patch[y0 - top : y1 - top, x0 - left : x1 - left]
