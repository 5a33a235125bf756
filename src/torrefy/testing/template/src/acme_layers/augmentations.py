"""The augmentations, a class a type. What is dear to import, numpy too, is imported where used."""

from __future__ import annotations

from torrefy.data.augment.augmentation import Augmentation, Drawn, Sample, augmentation
from torrefy.data.draws import Draws
from torrefy.schema.fields import field


@augmentation("Solarize")
class Solarize(Augmentation):
    """255 − x where x is at least a threshold, uniform (Cubuk et al. 2019, arXiv:1805.09501)."""

    min: float = field(64.0, doc="the least threshold, of 255", at_least=0, at_most=255)

    def draw(self, draws: Draws, size: tuple[int, int]) -> Drawn:
        """A threshold. All chance comes from `draws`, so that a run can be repeated."""
        return {"threshold": draws.uniform(self.min, 255)}

    def apply(self, sample: Sample, drawn: Drawn) -> None:
        """Turn bright pixels dark; the picture is CxHxW of 0..255, bytes or float32."""
        import numpy as np

        picture = sample.picture
        sample.picture = np.where(picture < drawn["threshold"], picture, 255 - picture)
