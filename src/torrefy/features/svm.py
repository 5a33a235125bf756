"""Classifiers of features: fitted by scikit-learn, kept as ONNX and skops, never as a pickle."""

from __future__ import annotations

import json
import secrets
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from torrefy.errors import DataError, Place, TorrefyError, did_you_mean
from torrefy.features.table import Features
from torrefy.runtime.session import OnnxModel
from torrefy.weights.files import replacing

RECORD, ONNX, SKOPS = "svm.json", "classifier.onnx", "classifier.skops"
MOST_RECORD = 64 << 20
"""The longest record that is read."""
KINDS = ("linear", "rbf", "sgd", "logistic")
"""LinearSVC; an SVC with a Gaussian kernel for each class against the rest; a linear SVM by
stochastic gradients, for very many pictures; logistic regression."""
PARITY = 1e-3
"""The largest difference allowed between a probability by scikit-learn and by ONNX Runtime."""
OPSET = {"": 20, "ai.onnx.ml": 3}


@dataclass(frozen=True)
class SVMOptions:
    """How a classifier is fitted."""

    classifier: str = "linear"
    """One of KINDS."""
    standardise: bool = False
    """Whether mean and deviation are taken out of each number."""
    l2: bool = True
    """Whether each picture's features are then made 1 long: C is then the same for every net."""
    pca: float = 0.0
    """Principal components that are kept: a number, or, below 1, the share of variance; 0: all."""
    c: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    """What C is chosen from; of sgd alpha is 1 / (C · pictures)."""
    folds: int = 5
    """Parts of the cross-validation; fewer where a class has fewer pictures."""
    groups: bool = True
    """Whether what has one group stays in one fold, where the features have groups."""
    seed: int = 0
    jobs: int = -1
    """Processes; -1: one for each core."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            TorrefyError: one is out of its range.
        """
        if self.classifier not in KINDS:
            hint = did_you_mean(self.classifier, KINDS) or f"There are {', '.join(KINDS)}."
            raise TorrefyError(f'there is no classifier "{self.classifier}"', hint=hint)
        if self.folds < 2:
            raise TorrefyError(f"folds must be 2 or more, found {self.folds}")
        if not self.c or min(self.c) <= 0:
            raise TorrefyError("C must be above 0")
        if self.pca < 0 or (self.pca > 1 and self.pca != int(self.pca)):
            raise TorrefyError(f"pca is a number of components or a share, found {self.pca:g}")


@dataclass(frozen=True)
class Fitted:
    """What was fitted, and how well it does on pictures that it has not seen."""

    folder: Path
    classes: tuple[str, ...]
    blob: str
    c: float
    table: tuple[tuple[float, float, float], ...]
    """Each C, the mean accuracy over the folds, and its deviation."""
    scores: NDArray[np.float32]
    """Of each picture the classes' probabilities by the classifier of the fold without it."""
    folds: int
    notes: tuple[str, ...]


def fit(
    features: Features,
    folder: str | Path,
    options: SVMOptions | None = None,
    *,
    blob: str = "",
    classes: tuple[str, ...] = (),
) -> Fitted:
    """Fit a classifier to features and keep it in a folder.

    C is chosen by cross-validation; with it the classifier is fitted to all. Probabilities are a
    softmax of its decisions, divided by the temperature that suits those of the folds best: so the
    likeliest class is always the classifier's own choice.

    Args:
        features: with labels.
        folder: it is made: classifier.onnx, classifier.skops, svm.json.
        options: how; None: the defaults.
        blob: the blob, where there are several.
        classes: the classes' names; none: the features'.

    Raises:
        DataError: the features have no labels, one class alone, or numbers that are not finite; or
            the folder exists; or too few pictures or groups to divide, or more components than
            a fold has pictures or numbers.
    """
    options, folder = options or SVMOptions(), Path(folder)
    if folder.exists():
        raise DataError("this exists; it is not overwritten", place=Place(str(folder)))
    name = features.blob(blob)
    x, y, names, notes = _training(features, name, classes)
    splits, more = _splits(features, x, y, names, options)
    notes += more
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of folds without a class, and of rounds that ran out
        best, table = _chosen(x, y, options, splits)
        whole = _pipeline(options, best, len(y))
        decisions = _out_of_fold(x, y, whole, splits)
        whole.fit(x, y)
    temperature = _temperature(decisions, y)
    record = {
        "blob": name,
        "classes": list(names),
        "dimensions": x.shape[1],
        "c": best,
        "temperature": temperature,
        "options": asdict(options),
        "cross_validation": [list(row) for row in table],
        "origin": features.origin,
        "pictures": np.bincount(y, minlength=len(names)).tolist(),
        "versions": _versions(),
    }
    _keep(folder, whole, x, record, temperature)
    return Fitted(
        folder, names, name, best, table, _softmax(decisions, temperature), len(splits),
        tuple(notes),
    )  # fmt: skip


def _training(
    features: Features, blob: str, classes: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[str, ...], list[str]]:
    """Numbers, labels without a gap, and the classes that have pictures."""
    place = Place(str(features.origin.get("data", ""))) if features.origin.get("data") else None
    if features.labels is None:
        raise DataError(
            "the features have no labels: nothing says what is in the pictures",
            place=place,
            hint="Take them of a folder with a folder for each class, of a list or a table.",
        )
    x = features.matrix(blob)
    wrong = np.flatnonzero(~np.isfinite(x).all(1))
    if len(wrong):
        raise DataError(f"the features of {features.paths[wrong[0]]} are not finite", place=place)
    names = classes or features.classes
    present = np.unique(features.labels)
    if len(present) < 2:
        raise DataError(
            f'there is only one class, "{names[present[0]]}": nothing tells it from others',
            place=place,
        )
    notes = []
    if len(present) < len(names):
        absent = [names[i] for i in range(len(names)) if i not in set(present.tolist())]
        notes.append(f"{len(absent)} classes have no picture and are left out, as {absent[0]}")
    y = np.searchsorted(present, features.labels)
    return x, y.astype(np.int64), tuple(names[i] for i in present), notes


Splits = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Of each fold the pictures to fit to, and those to look at."""


def _splits(
    features: Features,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    names: tuple[str, ...],
    options: SVMOptions,
) -> tuple[Splits, list[str]]:
    """The folds, stratified, and what is to be known of them."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    grouped = bool(features.groups) and options.groups
    # What is divided: pictures, or groups of them; how many each class has.
    pieces = np.unique(features.groups, return_inverse=True)[1] if grouped else np.arange(len(y))
    counts = np.asarray([len(np.unique(pieces[y == k])) for k in range(len(names))])
    what = "group" if grouped else "picture"
    if (counts >= 2).sum() < (2 if grouped else 1):
        few = names[int(counts.argmin())]
        raise DataError(
            f'class "{few}" has 1 {what}, and so have {"all" if counts.max() < 2 else "most"}: '
            "nothing is left to fit to when it is looked at",
            hint="--no-groups divides groups, too." if grouped else "Take more pictures.",
        )
    least = int(counts.min())
    folds, notes = max(2, min(options.folds, least)), []
    if least < options.folds:
        has = f"{least} {what}" + "s" * (least > 1)
        notes.append(f"a class has {has}: there are {folds} folds, not {options.folds}")
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(
        folds, shuffle=True, random_state=options.seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class with one picture, which is noted
        splits = list(splitter.split(x, y, pieces))
    most = min(x.shape[1], *(len(train) for train, _ in splits))
    if options.pca > most:
        raise DataError(
            f"{options.pca:g} principal components are asked for, but there are at most {most}: "
            f"{x.shape[1]} numbers of each picture, {min(len(s[0]) for s in splits)} pictures in "
            "the smallest part that is fitted to"
        )
    return splits, notes


def _jobs(options: SVMOptions, y: NDArray[np.int64]) -> int | None:
    """Processes; few pictures are done sooner by one."""
    return options.jobs if len(y) >= 2000 else None


def _chosen(
    x: NDArray[np.float32], y: NDArray[np.int64], options: SVMOptions, splits: Splits
) -> tuple[float, tuple[tuple[float, float, float], ...]]:
    """The C with the best mean accuracy, the smaller of equal ones, and the table of all."""
    from sklearn.model_selection import cross_val_score

    table = []
    for c in sorted(options.c):
        pipeline = _pipeline(options, c, len(y))
        found = cross_val_score(pipeline, x, y, cv=splits, n_jobs=_jobs(options, y))
        table.append((float(c), float(np.nanmean(found)), float(np.nanstd(found))))
    best = max(table, key=lambda row: (round(row[1], 6), -row[0]))
    return best[0], tuple(table)


def _before(options: SVMOptions) -> list[Any]:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import Normalizer, StandardScaler

    steps: list[Any] = [StandardScaler()] if options.standardise else []
    if options.pca:
        count = options.pca if options.pca < 1 else int(options.pca)
        steps.append(PCA(count, random_state=options.seed))
    return [*steps, Normalizer()] if options.l2 else steps


def _classifier(options: SVMOptions, c: float, count: int) -> Any:
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import SVC, LinearSVC

    if options.classifier == "linear":
        return LinearSVC(C=c, max_iter=5000, random_state=options.seed)
    if options.classifier == "rbf":
        # One class against the rest: scikit-learn's votes between pairs jump where a pair's
        # decision is near 0, so that float32 turns the class of 1 picture in 10,000.
        return OneVsRestClassifier(SVC(C=c))
    if options.classifier == "sgd":
        return SGDClassifier(alpha=1 / (c * count), random_state=options.seed)
    return LogisticRegression(C=c, max_iter=2000)


def _pipeline(options: SVMOptions, c: float, count: int) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(*_before(options), _classifier(options, c, count))


def _decisions(pipeline: Any, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """A number for each class, the highest that of the likeliest; of two classes minus and plus."""
    found = np.asarray(pipeline.decision_function(x), np.float64)
    return np.stack([-found, found], 1) if found.ndim == 1 else found


def _temperature(decisions: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """What decisions are divided by before a softmax, so that it says how sure one may be.

    The one with the least log loss, between 0.01 and 100 (Guo et al. 2017, arXiv:1706.04599). Where
    all are right that would be the smallest; so a label counts (n + 1) / (n + 2) of n pictures of
    its class, the rest is shared by the others (Platt 1999).
    """
    count, classes = decisions.shape
    members = np.bincount(y, minlength=classes)[y]
    left = 1 / (members + 2)
    losses = []
    grid = np.geomspace(0.01, 100, 201)
    for one in grid:
        logs = log_softmax(decisions / one, axis=1)
        own = logs[np.arange(count), y]
        others = (logs.sum(1) - own) / (classes - 1)
        losses.append(-float(((1 - left) * own + left * others).mean()))
    return float(grid[int(np.argmin(losses))])


def _softmax(decisions: NDArray[np.float64], temperature: float) -> NDArray[np.float32]:
    return np.asarray(softmax(decisions / temperature, axis=1), np.float32)


def _out_of_fold(
    x: NDArray[np.float32], y: NDArray[np.int64], pipeline: Any, splits: Splits
) -> NDArray[np.float64]:
    """Decisions on each picture by the classifier of the folds without it."""
    from sklearn.base import clone

    decisions = np.full((len(y), int(y.max()) + 1), -np.inf)
    for train, test in splits:
        present = np.unique(y[train])
        if len(present) < 2:
            decisions[np.ix_(test, present)] = 0
            continue
        fitted = clone(pipeline).fit(x[train], y[train])
        decisions[np.ix_(test, present)] = _decisions(fitted, x[test])
    return np.where(np.isfinite(decisions), decisions, -1e3)


def _versions() -> dict[str, str]:
    import skl2onnx
    import sklearn

    from torrefy import __version__

    return {
        "torrefy": __version__,
        "sklearn": sklearn.__version__,
        "skl2onnx": skl2onnx.__version__,
    }


def _keep(
    folder: Path,
    whole: Any,
    x: NDArray[np.float32],
    record: Mapping[str, Any],
    temperature: float,
) -> None:
    """Write the folder, whole or not at all; what ONNX says is held against scikit-learn.

    Raises:
        DataError: it can't be written, or both disagree.
    """
    import skops.io

    place = Place(str(folder))
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir()
        with replacing(part / ONNX) as file:
            file.write(_as_onnx(whole, x, temperature))
        with replacing(part / SKOPS) as file:
            file.write(skops.io.dumps(whole))
        with replacing(part / RECORD) as file:
            file.write(json.dumps(record, indent=1, ensure_ascii=False).encode("utf-8", "replace"))
        some = x[:: max(1, len(x) // 1000)]
        found = Classified.of(OnnxModel(part / ONNX), some).scores
        difference = float(np.abs(found - _softmax(_decisions(whole, some), temperature)).max())
        if not difference <= PARITY:
            raise DataError(
                f"the classifier as ONNX differs from scikit-learn's by {difference:.2g} in a "
                f"probability; allowed is {PARITY:g}",
                place=place,
                hint="Nothing was written. Another --classifier may do.",
            )
        part.rename(folder)
    except OSError as error:
        raise DataError(f"can't be written: {error.strerror}", place=place) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


@dataclass(frozen=True)
class _Machines:
    """SVCs with one kernel, their support vectors each kept once; skl2onnx keeps them by class."""

    vectors: NDArray[np.float64]
    middle: NDArray[np.float64]
    gamma: float
    weight: NDArray[np.float64]
    """Of each class, or of the second of two, a number for each vector."""
    bias: NDArray[np.float64]

    @classmethod
    def of(cls, last: Any) -> Self:
        """Those of a OneVsRestClassifier."""
        rows = np.unique(np.concatenate([one.support_ for one in last.estimators_]))
        vectors = np.zeros((len(rows), last.estimators_[0].support_vectors_.shape[1]))
        weight = np.zeros((len(last.estimators_), len(rows)))
        for k, one in enumerate(last.estimators_):
            places = np.searchsorted(rows, one.support_)
            vectors[places] = one.support_vectors_
            weight[k, places] = one.dual_coef_[0]
        bias = np.asarray([one.intercept_[0] for one in last.estimators_])
        gamma = float(last.estimators_[0]._gamma)
        return cls(vectors, vectors.mean(0), gamma, weight, bias)


def _as_onnx(whole: Any, x: NDArray[np.float32], temperature: float) -> bytes:
    """The pipeline as ONNX: "features" in, "scores" and "class" out."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from skl2onnx import to_onnx

    last, before = whole.steps[-1][1], whole[:-1]
    classes = len(last.classes_)
    if not before.steps:
        model = helper.make_model(helper.make_graph([], "classifier", [], []))
        model.opset_import[0].version = OPSET[""]
        model.ir_version = 9
        came, values = "features", "features"
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what scikit-learn will rename
            model = to_onnx(before, x[:1], target_opset=OPSET, name="classifier")
        came = model.graph.input[0].name
        values = model.graph.output[0].name
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["features" if name == came else name for name in node.input]

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def keep(name: str, array: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def axis() -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray([1]), "torrefy_axis"))
        return "torrefy_axis"

    if hasattr(last, "coef_"):
        weight, bias = np.asarray(last.coef_), np.asarray(last.intercept_)
    else:
        machines = _Machines.of(last)
        weight, bias = machines.weight, machines.bias
        # exp(-gamma (|x|^2 - 2 x.v + |v|^2)), x and v less a mean: float32 would lose the rest.
        near = machines.vectors - machines.middle
        x_near = add("Sub", [values, keep("torrefy_middle", machines.middle)], "torrefy_near")
        products = add("MatMul", [x_near, keep("torrefy_vectors", near.T)], "torrefy_products")
        double = add("Mul", [products, keep("torrefy_two", 2)], "torrefy_double")
        own = add("ReduceSumSquare", [x_near, axis()], "torrefy_own", keepdims=1)
        both = add("Add", [own, keep("torrefy_lengths", (near**2).sum(1))], "torrefy_lengths_both")
        apart = add("Sub", [both, double], "torrefy_apart")
        scaled = add("Mul", [apart, keep("torrefy_gamma", -machines.gamma)], "torrefy_exponents")
        values = add("Exp", [scaled], "torrefy_kernel")
    if len(weight) == 1:  # of two classes scikit-learn keeps the second's decision
        weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
    inputs = [values, keep("torrefy_weight", weight.T), keep("torrefy_bias", bias)]
    values = add("Gemm", inputs, "torrefy_decisions")
    inverse = keep("torrefy_inverse_temperature", 1 / temperature)
    add("Softmax", [add("Mul", [values, inverse], "torrefy_scaled")], "scores", axis=1)
    add("ArgMax", ["scores"], "class", axis=1, keepdims=0)
    del graph.input[:], graph.output[:], graph.value_info[:]
    values_of: list[tuple[str, int, list[str | int | None]]] = [
        ("features", TensorProto.FLOAT, ["batch", x.shape[1]]),
        ("scores", TensorProto.FLOAT, ["batch", classes]),
        ("class", TensorProto.INT64, ["batch"]),
    ]
    for name, kind, shape in values_of:
        where = graph.input if name == "features" else graph.output
        where.append(helper.make_tensor_value_info(name, kind, shape))
    onnx.checker.check_model(model)
    made: bytes = model.SerializeToString()
    return made


@dataclass(frozen=True)
class Classified:
    """What a classifier says of features."""

    classes: NDArray[np.int64]
    """Of each picture the likeliest class's number."""
    scores: NDArray[np.float32]
    """Of each picture the classes' probabilities."""

    @classmethod
    def of(cls, model: OnnxModel, x: NDArray[np.float32]) -> Self:
        """Run classifier.onnx.

        Raises:
            TorrefyError: it is another file.
        """
        made = model.run({"features": x}, ["class", "scores"])
        return cls(made["class"], made["scores"])


class SVM:
    """A classifier that `fit` has kept, run by ONNX Runtime."""

    def __init__(self, folder: str | Path) -> None:
        """Open a folder.

        Raises:
            DataError: it holds no classifier, or a damaged one.
        """
        self.folder = Path(folder)
        place = Place(str(self.folder / RECORD))
        try:
            with (self.folder / RECORD).open("rb") as file:
                record = json.loads(file.read(MOST_RECORD))
            self.classes: tuple[str, ...] = tuple(map(str, record["classes"]))
            self.blob = str(record["blob"])
            self.dimensions = int(record["dimensions"])
            self.origin: dict[str, Any] = dict(record["origin"])
        except FileNotFoundError:
            raise DataError(
                f"there is no {RECORD} in this folder",
                place=Place(str(self.folder)),
                hint="`torrefy svm fit` makes such folders.",
            ) from None
        except OSError as error:
            raise DataError(f"can't be read: {error.strerror}", place=place) from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError("this is no record of a classifier", place=place) from None
        self.model = OnnxModel(self.folder / ONNX)

    def classify(self, features: Features) -> Classified:
        """What it says of features of the same kind.

        Raises:
            DataError: they are of another blob, or made otherwise.
        """
        self.check(features)
        name = self.blob if self.blob in features.arrays else features.blob()
        x = features.matrix(name)
        if x.shape[1] != self.dimensions:
            raise DataError(
                f"the classifier takes {self.dimensions} numbers of each picture, the features "
                f"have {x.shape[1]}",
                place=Place(str(self.folder)),
            )
        return Classified.of(self.model, x)

    def check(self, features: Features) -> None:
        """Refuse features that were made otherwise.

        Raises:
            DataError: they were.
        """
        told = {
            "weights": "by other weights",
            "pool": "with another pool",
            "preprocessing": "of pictures made ready otherwise",
        }
        for key, how in told.items():
            mine, theirs = self.origin.get(key), features.origin.get(key)
            if mine is not None and theirs is not None and mine != theirs:
                models = self.origin.get("model"), features.origin.get("model")
                by = f": {models[1]}, not {models[0]}" if models[0] != models[1] else ""
                raise DataError(
                    f"the features were made {how} than those it was fitted to{by}",
                    place=Place(str(self.folder)),
                )
        if self.blob not in features.arrays and len(features.arrays) != 1:
            raise DataError(
                f'there are no features of the blob "{self.blob}"', place=Place(str(self.folder))
            )

    def to_sklearn(self) -> Any:
        """The pipeline as scikit-learn has it, from classifier.skops.

        Raises:
            DataError: the file is damaged, or holds what skops doesn't trust.
        """
        import skops.io

        file = self.folder / SKOPS
        place = Place(str(file))
        try:
            unknown = skops.io.get_untrusted_types(file=file)
            if unknown:
                raise DataError(f"it holds {', '.join(unknown)}, which is not trusted", place=place)
            return skops.io.load(file)
        except TorrefyError:
            raise
        except Exception as error:  # noqa: BLE001  of a damaged file nearly anything
            raise DataError(f"this can't be read: {error}", place=place) from None
