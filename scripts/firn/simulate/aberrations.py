"""What a microscope that is not quite aligned does to images: beam tilt, three- and fourfold astigmatism, uneven magnification.

Convention: all of it is a function of the specimen's frequency q; an image shows q at the frequency s for which `magnification s = q` (xy).
Its spectrum there is `sin(chi(q) - W4(q)) exp(i (W1(q) + W3(q)))` times the projection's. W1 is the odd part, less its linear term, of the
phase of spherical aberration -pi/2 Cs lambda³ |q + tilt / lambda|⁴; W3 = 2 pi/3 lambda² A |q|³ cos 3(azimuth - angle);
W4 = pi/2 lambda³ A |q|⁴ cos 4(azimuth - angle), azimuths from +x towards +y.
Source: Krivanek et al., Ultramicroscopy 78, 1 (1999); Glaeser et al., J. Struct. Biol. 174, 1 (2011).
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import affine_transform

UPSAMPLING = 3


@dataclass(frozen=True)
class Aberrations:
    """Beam tilt (x, y) in mrad; trefoil and tetrafoil as (strength in Å, angle in degrees); magnification (xx, xy, yx, yy)."""

    beam_tilt: tuple[float, float] = (0.0, 0.0)
    trefoil: tuple[float, float] = (0.0, 0.0)
    tetrafoil: tuple[float, float] = (0.0, 0.0)
    magnification: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 1.0)

    @property
    def matrix(self) -> np.ndarray:
        """From an image's frequency to the specimen's, xy."""
        return np.array(self.magnification).reshape(2, 2)

    @property
    def evenly_magnified(self) -> bool:
        """Whether images are stretched in no direction."""
        return self.magnification == (1.0, 0.0, 0.0, 1.0)


def even_phase(fy: np.ndarray, fx: np.ndarray, wavelength: float, aberrations: Aberrations) -> np.ndarray:
    """W4 in rad at frequencies in 1/Å."""
    strength, angle = aberrations.tetrafoil
    return 0.5 * np.pi * wavelength**3 * strength * _fold(fy, fx, 4, angle)


def odd_phase(fy: np.ndarray, fx: np.ndarray, wavelength: float, cs_mm: float, aberrations: Aberrations) -> np.ndarray:
    """W1 + W3 in rad at frequencies in 1/Å."""
    tx, ty = (1e-3 * value / wavelength for value in aberrations.beam_tilt)
    fy, fx = fy.astype(np.float64), fx.astype(np.float64)
    spherical = -0.5 * np.pi * cs_mm * 1e7 * wavelength**3
    ahead, behind = ((fx + sign * tx) ** 2 + (fy + sign * ty) ** 2 for sign in (1, -1))
    linear = 4 * (tx**2 + ty**2) * (fx * tx + fy * ty)
    strength, angle = aberrations.trefoil
    return spherical * (0.5 * (ahead**2 - behind**2) - linear) + 2 * np.pi / 3 * wavelength**2 * strength * _fold(fy, fx, 3, angle)


def aberrated(image: np.ndarray, pixel_size: float, wavelength: float, cs_mm: float, aberrations: Aberrations) -> np.ndarray:
    """An image `(y, x)` of a perfect microscope with the odd phases and the magnification of this one."""
    if any(aberrations.beam_tilt) or aberrations.trefoil[0]:
        fy, fx = np.fft.fftfreq(image.shape[0], pixel_size)[:, None], np.fft.rfftfreq(image.shape[1], pixel_size)[None]
        turned = np.exp(1j * odd_phase(fy, fx, wavelength, cs_mm, aberrations))
        image = scipy.fft.irfft2(scipy.fft.rfft2(image) * turned, s=image.shape)
    return image if aberrations.evenly_magnified else magnified(image, aberrations.matrix)


def magnified(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """An image whose spectrum at s is the given one's at `matrix s`, about index n // 2: splines on a finer grid."""
    rows, columns = image.shape
    fine = scipy.fft.irfft2(_padded(scipy.fft.rfft2(image), image.shape), s=(UPSAMPLING * rows, UPSAMPLING * columns)) * UPSAMPLING**2
    inverse = np.linalg.inv(matrix).T[::-1, ::-1]
    centre = np.array([rows // 2, columns // 2])
    offset = UPSAMPLING * (centre - inverse @ centre)
    read = affine_transform(fine, UPSAMPLING * inverse, offset, output_shape=image.shape, order=3, mode="grid-wrap")
    return read / abs(np.linalg.det(matrix))


def observed_defocus(defocus: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Defocus u, v, angle `(n, 3)` that explain the rings of images in which the magnification is taken for even."""
    mean, half = (defocus[:, 0] + defocus[:, 1]) / 2, (defocus[:, 0] - defocus[:, 1]) / 2
    cosine, sine = half * np.cos(np.deg2rad(2 * defocus[:, 2])), half * np.sin(np.deg2rad(2 * defocus[:, 2]))
    form = np.stack((np.stack((mean + cosine, sine), -1), np.stack((sine, mean - cosine), -1)), -2)
    values, vectors = np.linalg.eigh(matrix.T @ form @ matrix)
    angle = np.degrees(np.arctan2(vectors[:, 1, 1], vectors[:, 0, 1]))
    return np.stack((values[:, 1], values[:, 0], (angle + 90) % 180 - 90), axis=-1)


def _fold(fy: np.ndarray, fx: np.ndarray, order: int, angle: float) -> np.ndarray:
    """|q|^order cos(order (azimuth - angle)) as the real part of a power."""
    return np.real(((fx + 1j * fy) * np.exp(-1j * np.deg2rad(angle))) ** order)


def _padded(spectrum: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Spectrum of the image on a grid finer by UPSAMPLING; unpaired Nyquist rows and columns are left out."""
    rows, columns = shape
    half_y, half_x = (rows + 1) // 2, (columns + 1) // 2
    out = np.zeros((UPSAMPLING * rows, UPSAMPLING * columns // 2 + 1), dtype=complex)
    out[:half_y, :half_x] = spectrum[:half_y, :half_x]
    out[UPSAMPLING * rows - half_y + 1 :, :half_x] = spectrum[rows - half_y + 1 :, :half_x]
    return out
