"""Small pictures of micrographs, for strips and tables."""

from pathlib import Path

import matplotlib.image
import numpy as np

from firn.report.style import stretch


def write_thumbnail(path: Path, image: np.ndarray, longest_px: int) -> None:
    """PNG of an image `(y, x)`, averaged down to at most longest_px a side, grey values between percentiles of what is seen."""
    factor = max(1, -(-max(image.shape) // longest_px))
    height, width = (side // factor * factor for side in image.shape)
    small = image[:height, :width].reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    matplotlib.image.imsave(path, stretch(small), cmap="gray", vmin=0, vmax=1, metadata={"Software": ""})
