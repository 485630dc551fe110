"""Fast local correlation: normalised cross-correlation of small templates with an image that may have holes.

Convention: scores lie in [-1, 1], on the pixels of the image, at the template's origin `n // 2`. Means and variances are
those of the known pixels under the template's mask, so that edges and masked dirt do not bias the score. The coefficient is that of
all known pixels, times the square root of the share of the template's energy that lies on them: of few pixels noise correlates more
with anything, as the inverse of that root, and so noise scores alike everywhere.
Turns of one shape have much in common: the image is correlated with the few images that span the templates, and a template's
correlation is a weighted sum of theirs.
Source: Roseman, Ultramicroscopy 94, 225 (2003), eqs. 3-10; masked images as in Padfield, IEEE Trans. Image Process. 21, 2706 (2012).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from firn.kernels.crop import crop_boxes
from firn.kernels.fourier import fast_size, plain_irfft2, plain_rfft2

SPANNED = 0.99
"""Share of the templates' energy, over all of them, that the images they are summed of must hold."""
FEW = 16
"""So few templates are correlated one by one."""
TILE = 256
"""Side of the tiles that an image is correlated in: small enough for a processor's cache."""
PIXELS = 4096
"""Pixels whose correlations with all templates are summed at once."""
WINDOWS = 512
"""Windows compared with all templates at once."""


def local_correlation(
    image: Float[Tensor, "y x"],
    valid: Bool[Tensor, "y x"],
    templates: Float[Tensor, "t h w"],
    mask: Bool[Tensor, "h w"],
    overlap: float = 0.5,
) -> tuple[Float[Tensor, "y x"], Float[Tensor, "y x"]]:
    """(best score over the templates, variance under the mask) at every pixel.

    The score is the coefficient times the root of the share of the template's energy on known pixels, and -1 where less than
    `overlap` of the mask lies on these.
    Where the mask is cut by unknown pixels, the templates' mean and energy over the rest are taken as those of all
    templates together: exact for one template, and for rotations of one shape nearly so.
    """
    field = _Field(image, valid, (mask.shape[0], mask.shape[1]))
    count, mean, variance = field.moments(mask)
    unit = _normalised(templates, mask)
    offset = field.correlate_valid(unit.mean(0))
    energy = field.correlate_valid((unit**2).mean(0)) - offset**2 / count
    scale = torch.rsqrt((count * variance * energy.clamp(min=1e-6)).clamp(min=1e-12)) * energy.clamp(0, 1).sqrt()
    score = (_largest_sum(torch.where(valid, image, 0.0), *_span(unit)) - mean * offset) * scale
    return torch.where(_known(count, mask, overlap), score.clamp(-1, 1), -1.0), variance


def best_templates(
    image: Float[Tensor, "y x"],
    valid: Bool[Tensor, "y x"],
    templates: Float[Tensor, "t h w"],
    mask: Bool[Tensor, "h w"],
    points: Int[Tensor, "n 2"],
) -> Int[Tensor, "n"]:
    """Index of the template that correlates best with the image around each of n pixels yx."""
    side = mask.shape[0]
    padded = torch.nn.functional.pad(torch.where(valid, image, 0.0), (side, side, side, side))
    unit = _normalised(templates, mask).flatten(1).T
    chunks = [(crop_boxes(padded, chunk + side, side).flatten(1) @ unit).argmax(-1) for chunk in points.split(WINDOWS)]
    return torch.cat(chunks) if chunks else points.new_zeros(0)


def responses(image: Float[Tensor, "y x"], templates: Float[Tensor, "t h w"]) -> Float[Tensor, "t y x"]:
    """Correlation with every template, of mean 0 and sum of squares 1, at every pixel; the image is 0 beyond its edges."""
    field = _Field(image, torch.ones_like(image, dtype=torch.bool), (templates.shape[-2], templates.shape[-1]))
    return field.correlate_image(_normalised(templates, torch.ones_like(templates[0], dtype=torch.bool)))


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

    def correlate_image(self, templates: Tensor) -> Tensor:
        """Sum of each template times the known pixels."""
        return self._correlate(self.image, self._spectra(templates))

    def _correlate(self, spectrum: Tensor, kernel: Tensor) -> Tensor:
        return plain_irfft2(spectrum * kernel.conj(), self.padded)[..., : self.shape[0], : self.shape[1]]

    def _spectra(self, templates: Tensor) -> Tensor:
        """Spectra of templates whose origin `n // 2` is moved to index 0."""
        origin = templates.shape[-2] // 2, templates.shape[-1] // 2
        return plain_rfft2(torch.roll(self._pad(templates), (-origin[0], -origin[1]), dims=(-2, -1)))

    def _pad(self, images: Tensor) -> Tensor:
        return torch.nn.functional.pad(images, (0, self.padded[1] - images.shape[-1], 0, self.padded[0] - images.shape[-2]))


def _span(templates: Tensor) -> tuple[Tensor, Tensor]:
    """(images `(k, h, w)`, weights `(t, k)`): the templates are sums of the images, but for 1 - SPANNED of their energy.

    By the eigenvectors of the templates' scalar products (Eckart & Young, Psychometrika 1, 211, 1936); each sum keeps its norm.
    """
    if len(templates) <= FEW:
        return templates, torch.eye(len(templates), device=templates.device)
    flat = templates.flatten(1)
    values, vectors = torch.linalg.eigh((flat @ flat.T).double())
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    share = values.cumsum(0) / values.sum().clamp(min=1e-300)
    kept = int((share < SPANNED).sum()) + 1
    scale = values[:kept].sqrt().clamp(min=1e-12)
    weights = vectors[:, :kept] * scale
    images = ((vectors[:, :kept] / scale).T.to(flat.dtype) @ flat).reshape(kept, *templates.shape[1:])
    return images, (weights / weights.norm(dim=1, keepdim=True).clamp(min=1e-12)).to(flat.dtype)


def _largest_sum(image: Tensor, parts: Tensor, weights: Tensor) -> Tensor:
    """Largest weighted sum of the image's correlations with the parts, at every pixel; tile by tile (overlap-save)."""
    (height, width), (h, w) = image.shape, parts.shape[-2:]
    side = min(max(TILE, fast_size(3 * max(h, w))), fast_size(max(height, width) + max(h, w) - 1))
    shape, rows, columns = (side, side), side - h + 1, side - w + 1
    kernels = plain_rfft2(torch.nn.functional.pad(parts, (0, side - w, 0, side - h))).conj().resolve_conj()
    padded = torch.nn.functional.pad(image, (w // 2, side, h // 2, side))
    out = image.new_empty(height, width)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            spectrum = plain_rfft2(padded[top : top + side, left : left + side])
            target = out[top : top + rows, left : left + columns]
            sums = plain_irfft2(spectrum * kernels, shape)[:, : target.shape[0], : target.shape[1]]
            target.copy_(_largest(sums.flatten(1), weights).reshape(target.shape))
    return out


def _largest(values: Tensor, weights: Tensor) -> Tensor:
    return torch.cat([(weights @ chunk.contiguous()).amax(0) for chunk in values.split(PIXELS, dim=1)])


def _normalised(templates: Tensor, mask: Tensor) -> Tensor:
    """Templates with mean 0 under the mask, 0 outside it and sum of squares 1."""
    inside = mask.to(templates.dtype)
    centred = (templates - (templates * inside).sum((-2, -1), keepdim=True) / inside.sum()) * inside
    return centred / centred.square().sum((-2, -1), keepdim=True).sqrt().clamp(min=1e-12)


def _known(count: Tensor, mask: Tensor, overlap: float) -> Tensor:
    return count >= overlap * mask.sum()
