"""Fast local correlation: normalised cross-correlation of small templates with an image that may have holes.

Convention: scores lie in [-1, 1], on the pixels of the image, at the template's origin `n // 2`. Means and variances are
those of the known pixels under the template's mask, so that edges and masked dirt do not bias the score.
Source: Roseman, Ultramicroscopy 94, 225 (2003), eqs. 3-10; masked images as in Padfield, IEEE Trans. Image Process. 21, 2706 (2012).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from firn.kernels.fourier import fast_size, plain_irfft2, plain_rfft2

CHUNK = 16


def local_correlation(
    image: Float[Tensor, "y x"],
    valid: Bool[Tensor, "y x"],
    templates: Float[Tensor, "t h w"],
    mask: Bool[Tensor, "h w"],
    overlap: float = 0.5,
) -> tuple[Float[Tensor, "y x"], Int[Tensor, "y x"], Float[Tensor, "y x"]]:
    """(best score, index of the template that reached it, variance under the mask) at every pixel.

    The score is -1 where less than `overlap` of the mask lies on known pixels.
    Where the mask is cut by unknown pixels, the templates' mean and energy over the rest are taken as those of all
    templates together: exact for one template, and for rotations of one shape nearly so.
    """
    field = _Field(image, valid, (mask.shape[0], mask.shape[1]))
    count, mean, variance = field.moments(mask)
    unit = _normalised(templates, mask)
    offset = field.correlate_valid(unit.mean(0))
    energy = field.correlate_valid((unit**2).mean(0)) - offset**2 / count
    scale = torch.rsqrt((count * variance * energy.clamp(min=1e-6)).clamp(min=1e-12))
    best, index = field.best_of(unit)
    score = (best - mean * offset) * scale
    return torch.where(_known(count, mask, overlap), score.clamp(-1, 1), -1.0), index, variance


def local_variance(image: Float[Tensor, "y x"], valid: Bool[Tensor, "y x"], mask: Bool[Tensor, "h w"]) -> Float[Tensor, "y x"]:
    """Variance of the known pixels under the mask laid on every pixel."""
    return _Field(image, valid, (mask.shape[0], mask.shape[1])).moments(mask)[2]


def local_mean(image: Float[Tensor, "y x"], valid: Bool[Tensor, "y x"], mask: Bool[Tensor, "h w"]) -> Float[Tensor, "y x"]:
    """Mean of the known pixels under the mask laid on every pixel."""
    return _Field(image, valid, (mask.shape[0], mask.shape[1])).moments(mask)[1]


class _Field:
    """Spectra of an image with holes, padded so that a template of the given shape never wraps round."""

    def __init__(self, image: Tensor, valid: Tensor, template_shape: tuple[int, int]):
        self.shape = image.shape
        self.padded = fast_size(image.shape[0] + template_shape[0]), fast_size(image.shape[1] + template_shape[1])
        known = valid.to(image.dtype)
        self.known, self.image, self.squared = plain_rfft2(self._pad(torch.stack((known, image * known, image**2 * known)))).unbind(0)

    def moments(self, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(count, mean, variance) of the known pixels under the mask."""
        kernel = self._spectra(mask.to(torch.float32))
        count, total, squares = (self._correlate(spectrum, kernel) for spectrum in (self.known, self.image, self.squared))
        count = count.round().clamp(min=1)
        mean = total / count
        return count, mean, (squares / count - mean**2).clamp(min=0)

    def correlate_valid(self, template: Tensor) -> Tensor:
        """Sum of the template over the known pixels."""
        return self._correlate(self.known, self._spectra(template))

    def best_of(self, templates: Tensor) -> tuple[Tensor, Tensor]:
        """(largest correlation, index of its template) at every pixel."""
        best = torch.full(self.shape, -torch.inf, device=templates.device)
        index = torch.zeros(self.shape, dtype=torch.long, device=templates.device)
        for start in range(0, len(templates), CHUNK):
            values, which = self._correlate(self.image, self._spectra(templates[start : start + CHUNK])).max(0)
            better = values > best
            best, index = torch.where(better, values, best), torch.where(better, which + start, index)
        return best, index

    def _correlate(self, spectrum: Tensor, kernel: Tensor) -> Tensor:
        return plain_irfft2(spectrum * kernel.conj(), self.padded)[..., : self.shape[0], : self.shape[1]]

    def _spectra(self, templates: Tensor) -> Tensor:
        """Spectra of templates whose origin `n // 2` is moved to index 0."""
        origin = templates.shape[-2] // 2, templates.shape[-1] // 2
        return plain_rfft2(torch.roll(self._pad(templates), (-origin[0], -origin[1]), dims=(-2, -1)))

    def _pad(self, images: Tensor) -> Tensor:
        return torch.nn.functional.pad(images, (0, self.padded[1] - images.shape[-1], 0, self.padded[0] - images.shape[-2]))


def _normalised(templates: Tensor, mask: Tensor) -> Tensor:
    """Templates with mean 0 under the mask, 0 outside it and sum of squares 1."""
    inside = mask.to(templates.dtype)
    centred = (templates - (templates * inside).sum((-2, -1), keepdim=True) / inside.sum()) * inside
    return centred / centred.square().sum((-2, -1), keepdim=True).sqrt().clamp(min=1e-12)


def _known(count: Tensor, mask: Tensor, overlap: float) -> Tensor:
    return count >= overlap * mask.sum()
