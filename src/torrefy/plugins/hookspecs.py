"""Every hook that a plugin can implement, on one page.

A plugin is a module with functions marked `@hookimpl`, named by an entry point of the group
`torrefy`. At its top it says `TORREFY_API = 1`, the version of this page that it is written for.
Hooks are called when what they give is first needed, once. Each returns a list; what is dear to
import is returned as a `Lazy`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    from torrefy.plugins.lazy import Lazy

PROJECT = "torrefy"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def torrefy_layers() -> Iterable[type[Any] | Lazy]:  # type: ignore[empty-body]
    """Layer types: `Layer` subclasses made with `@layer("Type")`. Since 0.1.

    Fields that a class declares become its parameters in the definition language. A `Lazy`
    keeps torch out of what only reads definitions; its parameters are declared by
    `torrefy_schema_fields`.

    Example:
        @layer("Snake")
        class Snake(Layer):
            "x + sin²(a x) / a (Ziyin et al. 2020, arXiv:2006.08195)."
            a: float = field(1.0, doc="frequency", above=0)

            def forward(self, x):
                return x + torch.sin(self.a * x).square() / self.a

        @hookimpl
        def torrefy_layers():
            return [Snake, Lazy("Permute", "acme_layers.arrange:Permute")]
    """


@hookspec
def torrefy_schema_fields() -> Iterable[type[Any]]:  # type: ignore[empty-body]
    """Fields that are added to messages: `Fields` subclasses with `extends`. Since 0.1.

    They are text and binary like Caffe's own. Where two plugins add a field of one name with
    another meaning, the definition or the user says whose it is.

    Example:
        class PermuteParameter(Fields):
            order: list[int] = field(doc="the bottom's axes in the top's order")

        class LayerFields(Fields, extends="caffe.LayerParameter"):
            permute_param: PermuteParameter = field()

        @hookimpl
        def torrefy_schema_fields():
            return [LayerFields]
    """


@hookspec
def torrefy_fillers() -> Iterable[Any]:  # type: ignore[empty-body]
    """Fillers of params: functions made one by `@filler("name")`. Since 0.1.

    Example:
        @filler("orthogonal")
        def orthogonal(tensor, parameters, generator):
            "Rows or columns at right angles (Saxe et al. 2014)."
            torch.nn.init.orthogonal_(tensor, generator=generator)

        @hookimpl
        def torrefy_fillers():
            return [orthogonal]
    """


@hookspec
def torrefy_solvers() -> Iterable[type[Any] | Lazy]:  # type: ignore[empty-body]
    """Solver types: `SolverOptimizer` subclasses, by their `type_name`. Since 0.1.

    Fields that one reads beside Caffe's are added to `caffe.SolverParameter` by
    `torrefy_schema_fields`.

    Example:
        class Lion(SolverOptimizer):
            "w − r sign(β₁ m + (1 − β₁) g) (Chen et al. 2023, arXiv:2302.06675)."
            type_name = "Lion"

            def update(self, group, rate, params, grads, mean): ...

        @hookimpl
        def torrefy_solvers():
            return [Lion]
    """


@hookspec
def torrefy_lr_policies() -> Iterable[Any]:  # type: ignore[empty-body]
    """Learning-rate policies: functions made one by `@policy("name")`. Since 0.1.

    Example:
        @policy("triangle", above_zero=("stepsize",))
        def triangle(parameter, progress):
            "Up and down over 2 stepsize iterations (Smith 2015, arXiv:1506.01186)."
            place = progress.iteration % (2 * parameter.stepsize) / parameter.stepsize
            return parameter.base_lr * (1 - abs(1 - place))

        @hookimpl
        def torrefy_lr_policies():
            return [triangle]
    """


@hookspec
def torrefy_train_callbacks() -> Iterable[type[Any]]:  # type: ignore[empty-body]
    """Callbacks: `Callback` subclasses made with `@callback("Type")`. Since 0.1.

    A solver's text names them, `callback { type: "Cooldown" cooldown_param { seconds: 60 } }`;
    fields that a class declares become its parameters. The module is imported whenever a text is
    read: what is dear, torch too, is imported in the methods.

    Example:
        @callback("Cooldown")
        class Cooldown(Callback):
            "Lets the machine cool down after each test."
            seconds: float = field(30.0, doc="how long", at_least=0)

            def on_test(self, solver):
                time.sleep(self.seconds)

        @hookimpl
        def torrefy_train_callbacks():
            return [Cooldown]
    """


@hookspec
def torrefy_augmentations() -> Iterable[type[Any]]:  # type: ignore[empty-body]
    """Augmentations: `Augmentation` subclasses made with `@augmentation("Type")`. Since 0.1.

    A data layer's text names them, in its transform_param: `augmentation { type: "Solarize"
    solarize_param { above: 128 } }`; fields that a class declares become its parameters. The
    module is imported whenever a text is read: what is dear, numpy too, is imported in the methods.
    What is done to whole batches, labels too, is a `BatchAugmentation` and gives `mix`.

    Example:
        @augmentation("Solarize")
        class Solarize(Augmentation):
            "Turns bright pixels dark (Cubuk et al. 2019, arXiv:1805.09501)."
            above: float = field(128.0, doc="the darkest value that is turned")

            def apply(self, sample, drawn):
                import numpy as np
                picture = sample.picture
                sample.picture = np.where(picture < self.above, picture, 255 - picture)

        @hookimpl
        def torrefy_augmentations():
            return [Solarize]
    """


@hookspec
def torrefy_heads() -> Iterable[type[Any]]:  # type: ignore[empty-body]
    """Heads: `Head` subclasses made with `@head("Type")`. Since 0.1.

    A head writes layers onto a backbone's blob: `head { type: "Polynomial" bottom: "fc7"
    num_output: 10 polynomial_param { degree: 2 } }` in a definition, `--head Polynomial` on the
    command line. Fields that a class declares become its parameters. The module is imported
    whenever a text is read; a head writes text and needs no torch.

    Example:
        @head("Polynomial")
        class Polynomial(Head):
            "The blob and its powers, each weighted."
            degree: int = field(2, doc="the highest power", at_least=1)

            def write(self, site):
                powers = [site.bottom]
                for i in range(2, self.degree + 1):
                    powers.append(site.add("Power", site.bottom, name=f"power{i}",
                                           power_param={"power": i}))
                x = site.add("Concat", *powers, name="powers")
                score = site.add_learned("InnerProduct", x, name="score",
                                         inner_product_param={"num_output": site.num_output})
                site.classify(score)

        @hookimpl
        def torrefy_heads():
            return [Polynomial]
    """


@hookspec
def torrefy_zoo_paths() -> Iterable[Path]:  # type: ignore[empty-body]
    """Folders that hold zoo models, one folder a model with its card.prototxt. Since 0.1.

    Datasets lie in such a folder's `datasets/`, a file each (docs/data.md).

    Example:
        @hookimpl
        def torrefy_zoo_paths():
            return [Path(__file__).parent / "zoo"]
    """


@hookspec
def torrefy_weight_formats() -> Iterable[Any]:  # type: ignore[empty-body]
    """Formats that weights are read from and written to: `WeightFormat` objects. Since 0.1.

    Example:
        @hookimpl
        def torrefy_weight_formats():
            return [WeightFormat("npz", (".npz",), read_npz, write_npz)]
    """


@hookspec
def torrefy_sources() -> Iterable[Any]:  # type: ignore[empty-body]
    """Layer types whose data are read: `SourceType` objects. Since 0.1.

    The layer itself comes by `torrefy_layers`, with `feeds = True`.

    Example:
        def open_segments(spec, folder, arrays):
            return Segments(folder / spec.image_data_param.source)  # a `Source`

        @hookimpl
        def torrefy_sources():
            return [SourceType("ImageSegData", "image_data_param", open_segments)]
    """


@hookspec
def torrefy_lint_rules() -> Iterable[Any]:  # type: ignore[empty-body]
    """Traps that `torrefy check` looks for: `Rule` objects. Since 0.1.

    Example:
        @hookimpl
        def torrefy_lint_rules():
            return [Rule("ACME101", "prior-outside", prior_outside)]
    """


@hookspec
def torrefy_runtimes() -> Iterable[type[Any] | Lazy]:  # type: ignore[empty-body]
    """What computes models: `Runtime` subclasses, by their `name`. Since 0.1.

    `torrefy classify --runtime acme`, and a row of `torrefy bench`; `--runtime auto` tries it, too.

    Example:
        class Acme(Runtime):
            "Models on ACME's accelerator."
            name = "acme"

            def missing(self, device, precision):
                return "" if acme.boards() else "there is no ACME board in this machine"

            def version(self):
                return acme.__version__

            def open(self, model, device, precision, threads):
                return AcmeSession(acme.compile(model.file()))

        @hookimpl
        def torrefy_runtimes():
            return [Acme]
    """


@hookspec
def torrefy_commands() -> Iterable[Any]:  # type: ignore[empty-body]
    """Commands of `torrefy`: click commands, or `Lazy` ones with a line of help. Since 0.1.

    A command that has the name of a built-in one is refused.

    Example:
        @hookimpl
        def torrefy_commands():
            return [Lazy("anchors", "acme_layers.anchors:command", "Draw the anchors of a net.")]
    """
