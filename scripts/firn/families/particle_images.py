"""The images that a refinement works on: all of them in memory, or, where they do not fit, read from their stacks whenever they are asked for.

Reading goes through the cache of particle images where there is one (`FIRN_CACHE`), which makes it cheap on a cluster.
"""

import pandas as pd
import torch
from torch import Tensor

from firn.families.aberrations import iterate_corrected, load_corrected
from firn.kernels.fourier import resize_images

READ = 512
"""Images read at a time."""


class StoredImages:
    """Float32 images `(n, box, box)` of the rows of a table, cropped in Fourier space to a box, none of which is kept."""

    def __init__(self, table: pd.DataFrame, box: int):
        self._table, self.shape = table, (len(table), box, box)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Images `(b, box, box)` of some rows, in their order."""
        box = self.shape[-1]
        return resize_images(load_corrected(self._table.iloc[rows.numpy()]), (box, box))


def images_in_memory(table: pd.DataFrame, box: int) -> Tensor:
    """All images of a table `(n, box, box)`, cropped in Fourier space to a box, read once."""
    images = torch.empty(len(table), box, box)
    for rows, part in iterate_corrected(table, READ):
        images[torch.as_tensor(rows)] = resize_images(part, (box, box))
    return images
