"""Particle images with known poses: protein white, CTF applied, noise of standard deviation 1.

Convention: the signal-to-noise ratio is the mean power of the imaged particle within its circle over that of the noise, as a mean
over all particles. Shifts move the particle by -origin (RELION: the origin, added to the image, centres it).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from firn.simulate.aberrations import aberrated
from firn.simulate.ctf import Optics
from firn.simulate.euler import euler_to_matrix, matrix_to_euler, random_matrices
from firn.simulate.micrograph import imaged
from firn.simulate.specimen import Specimen, project


@dataclass(frozen=True)
class Poses:
    """angles `(n, 3)` in degrees, origins `(n, 2)` xy in Å, defocus `(n, 3)`, class_numbers `(n,)` from 1; junk comes last."""

    angles: np.ndarray
    origins: np.ndarray
    defocus: np.ndarray
    class_numbers: np.ndarray


def draw_classes(count: int, fractions: Sequence[float], junk: float, generator: np.random.Generator) -> np.ndarray:
    """Class of each particle; the class after the last model is junk."""
    shares = np.append((1 - junk) * np.array(fractions) / np.sum(fractions), junk)
    return 1 + generator.choice(len(shares), size=count, p=shares)


def draw_poses(class_numbers: np.ndarray, shift_sd: float, defocus: np.ndarray, generator: np.random.Generator) -> Poses:
    """Uniform orientations and Gaussian origins of standard deviation shift_sd in Å along x and y."""
    count = len(class_numbers)
    angles = matrix_to_euler(random_matrices(count, generator))
    return Poses(angles, generator.normal(0, shift_sd, (count, 2)), defocus, class_numbers)


def draw_defocus(
    micrographs: int, low: float, high: float, astigmatism: float, spread: float, owner: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Defocus u, v, angle `(n, 3)` of particles on micrographs `owner`; spread in Å is that of single particles around theirs."""
    mean = generator.uniform(low, high, micrographs)
    half = 0.5 * np.abs(generator.normal(0, astigmatism, micrographs))
    angle = generator.uniform(-90, 90, micrographs)
    own = generator.normal(0, spread, len(owner))
    return np.stack(((mean + half)[owner] + own, (mean - half)[owner] + own, angle[owner]), axis=-1)


def signal_images(poses: Poses, specimens: list[Specimen], box: int, optics: Optics, generator: np.random.Generator) -> np.ndarray:
    """Noise-free images `(n, y, x)` float32, protein white, of mean power 1 within the largest specimen's circle.

    With uneven magnification they are cut from images of twice the side, since what the CTF carries beyond a box cannot be stretched in it.
    """
    images = np.empty((len(poses.angles), box, box), dtype=np.float32)
    radius = max(specimen.radius for specimen in specimens)
    canvas = box if optics.aberrations.evenly_magnified else 2 * box
    start = canvas // 2 - box // 2
    for index, number in enumerate(poses.class_numbers):
        shift = (-float(poses.origins[index, 0]), -float(poses.origins[index, 1]))
        if number > len(specimens):
            projection = _junk(specimens, radius, canvas, optics.pixel_size, generator)
        else:
            projection = project(specimens[number - 1], euler_to_matrix(*poses.angles[index]), canvas, optics.pixel_size, shift)
        image = -imaged(projection, optics, tuple(poses.defocus[index]))
        image = aberrated(image, optics.pixel_size, optics.wavelength, optics.cs_mm, optics.aberrations)
        images[index] = image[start : start + box, start : start + box]
    real = poses.class_numbers <= len(specimens)
    inside = circle(box, min(radius / optics.pixel_size, box / 2 - 1))
    power = float(np.mean(images[real][:, inside] ** 2)) if real.any() else 1.0
    return images / np.sqrt(max(power, 1e-30))


def add_noise(signal: np.ndarray, snr: float, colour: float, pixel_size: float, generator: np.random.Generator) -> np.ndarray:
    """sqrt(snr) * signal + noise of standard deviation 1, `(n, y, x)` float32.

    colour: 0 for white noise; else the amplitude of the noise at low frequency exceeds that at high frequency by 1 + colour.
    """
    box = signal.shape[-1]
    fy, fx = np.fft.fftfreq(box, pixel_size)[:, None], np.fft.rfftfreq(box, pixel_size)[None, :]
    shape = 1 + colour * np.exp(-((fy**2 + fx**2) * 30.0**2))
    gain = np.sqrt(np.mean(_full(shape, box) ** 2))
    images = np.empty_like(signal)
    for index, image in enumerate(signal):
        noise = generator.standard_normal((box, box), dtype=np.float32)
        if colour:
            noise = scipy.fft.irfft2(scipy.fft.rfft2(noise) * (shape / gain), s=noise.shape).astype(np.float32)
        images[index] = np.sqrt(snr) * image + noise
    return images


def circle(box: int, radius_px: float) -> np.ndarray:
    """Boolean `(y, x)`, true within the radius around index n // 2."""
    axis = np.arange(box) - box // 2
    return np.hypot(axis[:, None], axis[None, :]) <= radius_px


def _junk(specimens: list[Specimen], radius: float, box: int, pixel_size: float, generator: np.random.Generator) -> np.ndarray:
    """Nothing, or an off-centre piece of contamination: a dense blob without structure."""
    if generator.uniform() < 0.5:
        return np.zeros((box, box), dtype=np.float32)
    axis = (np.arange(box) - box // 2) * pixel_size
    sigma, (x, y) = generator.uniform(0.15, 0.5) * radius, generator.uniform(-radius, radius, 2)
    blob = np.exp(-0.5 * ((axis[:, None] - y) ** 2 + (axis[None, :] - x) ** 2) / sigma**2)
    strength = np.mean([_brightest(specimen, pixel_size) for specimen in specimens])
    return (generator.uniform(0.7, 2.0) * strength * blob).astype(np.float32)


def _brightest(specimen: Specimen, pixel_size: float) -> float:
    """Mean projected contrast per pixel over the specimen's circle, three times."""
    return float(3 * specimen.weights.sum() * pixel_size**2 / (np.pi * specimen.radius**2))


def _full(half: np.ndarray, box: int) -> np.ndarray:
    """All n columns of a real, even function given on the rfft half grid."""
    columns = np.abs(np.round(np.fft.fftfreq(box) * box)).astype(int)
    return half[:, columns]
