"""FineTuner: finetuning as an estimator of scikit-learn's."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from torrefy.data.examples import examples_of
from torrefy.data.preprocess import Preprocessor
from torrefy.errors import DataError, Place, TorrefyError
from torrefy.features.estimator import OfPictures
from torrefy.finetune.answering import answers_of
from torrefy.finetune.finetune import Finetuned, fine_tune
from torrefy.finetune.options import Options
from torrefy.weights.load import load_net


class FineTuner(ClassifierMixin, OfPictures):  # type: ignore[misc]
    """A pretrained net with a head of its own, learned from pictures.

    X is a list of names of files, or of arrays of bytes (H×W×3 in RGB, or H×W), or one array of
    them; y a class for each. It stands in a `Pipeline`, `GridSearchCV` and `cross_val_score`. What
    it learns is what `torrefy finetune` learns of the same pictures with the same options.

    Args:
        model: a zoo model's name, a folder with a card, or a .prototxt.
        head: the head, with fields: "MLP hidden: 256"; empty: Linear.
        blob: where the net is cut; empty: at what its last learned layer reads.
        unfreeze: what of the net learns: "all", "half", "none" or a layer and all behind it.
        head_epochs: epochs of the first phase; 0: by the number of pictures, as for `epochs`.
        epochs: epochs of each later phase.
        batch: pictures to a batch; 0: by their number.
        head_lr: the rate of the first phase.
        lr: the net's rate.
        augment: what is done to pictures; empty: "flip" of pictures in colour.
        balance: "weights": each class counts alike.
        smoothing: label smoothing.
        held_out: the share of X by which the phase is chosen that did best.
        refit: whether it then learns again from all of X: "auto", up to 2,000; "yes", "no".
        seed: of everything random.
        device: "cpu", "cuda".
        run: a folder for the run; None: none is kept.

    Example:
        tuner = torrefy.FineTuner("squeezenet_v1.1", unfreeze="none").fit(paths, names)
        tuner.predict(["new.jpg"])
        sklearn.model_selection.cross_val_score(tuner, paths, names)
    """

    def __init__(
        self,
        model: str | Path = "squeezenet_v1.1",
        *,
        head: str = "",
        blob: str = "",
        unfreeze: str = "half",
        head_epochs: int = 0,
        epochs: int = 0,
        batch: int = 0,
        head_lr: float = 0.003,
        lr: float = 0.0003,
        augment: str = "",
        balance: str = "none",
        smoothing: float = 0.1,
        held_out: float = 0.2,
        refit: str = "auto",
        seed: int = 0,
        device: str = "cpu",
        run: str | Path | None = None,
    ) -> None:
        """Take the parameters; `fit` looks at them."""
        self.model = model
        self.head = head
        self.blob = blob
        self.unfreeze = unfreeze
        self.head_epochs = head_epochs
        self.epochs = epochs
        self.batch = batch
        self.head_lr = head_lr
        self.lr = lr
        self.augment = augment
        self.balance = balance
        self.smoothing = smoothing
        self.held_out = held_out
        self.refit = refit
        self.seed = seed
        self.device = device
        self.run = run

    def fit(self, X: Any, y: Any) -> Self:
        """Finetune.

        Raises:
            TorrefyError: the parameters or the pictures are wrong.
        """
        given = self.get_params(deep=False)
        model, run = given.pop("model"), given.pop("run")
        examples = examples_of(X, y)
        if examples.kind != "classes":
            raise DataError("y has a class for each picture", place=Place("y"))
        self.classes_ = np.unique(np.asarray(y))
        with tempfile.TemporaryDirectory(prefix="torrefy-") as folder:
            done = fine_tune(model, examples, run or Path(folder) / "run", Options(**given))
            self._keep(done)
        return self

    def _keep(self, done: Finetuned) -> None:
        """What `predict` needs, as an object that may be sent elsewhere can hold it."""
        self.definition_ = (done.folder / "net.prototxt").read_text(encoding="utf-8")
        self.weights_ = (done.folder / "net.caffemodel").read_bytes()
        self.preprocessing_ = done.preprocessor.to_text()
        self.answer_ = done.answer
        self.held_out_score_ = done.answers[0].value

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """A probability for each picture and class, in the order of `classes_`.

        Raises:
            NotFittedError: before `fit`.
            TorrefyError: a picture can't be read.
        """
        check_is_fitted(self, "weights_")
        preprocessor = Preprocessor.from_text(self.preprocessing_)
        with tempfile.TemporaryDirectory(prefix="torrefy-") as folder:
            self.save(folder)
            net = load_net(
                Path(folder) / "net.prototxt", Path(folder) / "net.caffemodel", device=self.device
            )
        return answers_of(net, preprocessor, self.answer_, examples_of(X), _refuse)[1]

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class of each picture."""
        likeliest = self.predict_proba(X).argmax(1)
        found: NDArray[Any] = self.classes_[likeliest]
        return found

    def save(self, folder: str | Path) -> None:
        """Write net.prototxt and net.caffemodel.

        Raises:
            NotFittedError: before `fit`.
        """
        check_is_fitted(self, "weights_")
        (Path(folder) / "net.prototxt").write_text(self.definition_, encoding="utf-8")
        (Path(folder) / "net.caffemodel").write_bytes(self.weights_)


def _refuse(error: TorrefyError) -> None:
    raise error
