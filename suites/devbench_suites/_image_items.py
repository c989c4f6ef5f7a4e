"""Images that are loaded one by one, and what is done to each: crop, flip, normalise.

Its own module because torch's worker processes import it: they need numpy and nothing of devbench.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

#: Mean and standard deviation of ImageNet's red, green and blue, pixels from 0 to 1; what torchvision
#: normalises with: https://pytorch.org/vision/stable/models.html
MEAN: Final = (0.485, 0.456, 0.406)
DEVIATION: Final = (0.229, 0.224, 0.225)


def normalisation() -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift by which a pixel from 0 to 255 is normalised: (x/255 - mean) / deviation."""
    deviation = np.array(DEVIATION)
    return 1 / (255 * deviation), -np.array(MEAN) / deviation


@dataclass(frozen=True, slots=True)
class ImageItems:
    """A map-style dataset as torch's DataLoader takes it: item i is (i, the image made from i).

    images: uint8, (count, height, width, 3). crops: the top left corner of each image's cut-out of
    side × side. flips: whether it is mirrored. Both are drawn beforehand, so that an item is the
    same in every epoch, worker and framework. scale, shift: see `normalisation`, as float32.
    """

    side: int
    images: np.ndarray
    crops: np.ndarray
    flips: np.ndarray
    scale: np.ndarray
    shift: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray]:
        """The image is float32, (3, side, side), as torch's networks want it."""
        top, left = self.crops[index]
        image = self.images[index, top : top + self.side, left : left + self.side]
        if self.flips[index]:
            image = image[:, ::-1]
        pixels = image * self.scale + self.shift
        return index, np.ascontiguousarray(pixels.transpose(2, 0, 1))
