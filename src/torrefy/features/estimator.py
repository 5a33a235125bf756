"""FeatureExtractor: features of pictures as a transformer of scikit-learn's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from torrefy.data.examples import examples_of
from torrefy.features.extract import Extractor, extract


class OfPictures(BaseEstimator):  # type: ignore[misc]
    """An estimator whose X is pictures: names of files, or arrays of bytes."""

    def __sklearn_tags__(self) -> Any:
        """X is no table, and is looked at by ourselves."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags


class FeatureExtractor(TransformerMixin, OfPictures):  # type: ignore[misc]
    """Pictures to features by a pretrained net.

    X is a list of names of files, or of arrays of bytes (H×W×3 in RGB, or H×W), or one array of
    them; what comes out is N×D float32. Nothing is learned: `fit` opens the model. It stands in a
    `Pipeline`, `GridSearchCV` and `cross_val_score`; where it is sent to another process it opens
    the model there.

    Args:
        model: a zoo model's name, a folder with a card, or a .prototxt.
        blob: the blob; empty: what the net's last learned layer reads.
        pool: what is done to maps: "avg", "max", "spp" or "flatten".
        tta: versions of each picture over which features are averaged: "flip", "oversample".
        weights: those of a .prototxt.
        preprocessing: a prototxt of what is done to a picture, where no card says it.
        device: "cpu", "cuda".
        batch: pictures that go through the net together.

    Example:
        svm = make_pipeline(torrefy.FeatureExtractor("squeezenet_v1.1"), StandardScaler(),
                            LinearSVC(C=0.01))
        svm.fit(paths, names).predict(["new.jpg"])
    """

    def __init__(
        self,
        model: str | Path = "squeezenet_v1.1",
        *,
        blob: str = "",
        pool: str = "avg",
        tta: str | None = None,
        weights: str | Path | None = None,
        preprocessing: str | Path | None = None,
        device: str = "cpu",
        batch: int = 32,
    ) -> None:
        """Take the parameters; `fit` looks at them."""
        self.model = model
        self.blob = blob
        self.pool = pool
        self.tta = tta
        self.weights = weights
        self.preprocessing = preprocessing
        self.device = device
        self.batch = batch

    def fit(self, X: Any, y: Any = None) -> Self:
        """Open the model, and see that X is pictures.

        Raises:
            TorrefyError: there is no such model or blob, or X is something else.
        """
        del y
        examples_of(X)
        opened = self._open()
        self.blob_ = opened.blobs[0]
        self.n_features_out_ = opened.dims[self.blob_]
        return self

    def _open(self) -> Extractor:
        found: Extractor | None = self.__dict__.get("_opened")
        if found is None:
            blobs = [self.blob] if self.blob else []
            found = Extractor(
                self.model, blobs, pool=self.pool, tta=self.tta, weights=self.weights,
                preprocessing=self.preprocessing, device=self.device,
            )  # fmt: skip
            self._opened = found
        return found

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a model that is open is opened anew."""
        self.__dict__.pop("_opened", None)
        changed: Self = super().set_params(**params)
        return changed

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Features of pictures, N×D.

        Raises:
            NotFittedError: before `fit`.
            TorrefyError: a picture can't be read.
        """
        check_is_fitted(self, "n_features_out_")
        return extract(self._open(), examples_of(X), batch=self.batch).matrix()

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """A name for each feature: "fire9/concat_0".

        Raises:
            NotFittedError: before `fit`.
        """
        del input_features
        check_is_fitted(self, "n_features_out_")
        return np.asarray([f"{self.blob_}_{i}" for i in range(self.n_features_out_)], object)

    def __getstate__(self) -> dict[str, Any]:
        """Without the net, which is opened again where it is needed."""
        state = dict(super().__getstate__())
        state.pop("_opened", None)
        return state
