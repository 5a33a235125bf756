"""What an editor knows of `L` and `P`; made from the schema by `make docs`."""

from collections.abc import Mapping, Sequence
from typing import Any

from torrefy.spec.build import Enums, LayerFunctions, Top

Message = Mapping[str, Any]
Messages = Message | Sequence[Message]

class _L(LayerFunctions):
    def AbsVal(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        **fields: Any,
    ) -> Any:
        """|x|; the top has the bottom's shape. The gradient at 0 is 0, as in torch."""
    def Accuracy(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        top_k: int = ...,
        axis: int = ...,
        ignore_label: int = ...,
        **fields: Any,
    ) -> Any:
        """The share of predictions whose right class has one of the `top_k` best scores.

        Bottoms: scores with the classes along `axis` (default 1), and a label for each prediction.
        Tops: a scalar, and on request the share for each class (C numbers). As in Caffe a tie counts
        against the right class, `ignore_label` is left out, and the share of nothing is 0. There is
        no gradient.

        Beyond Caffe, labels of the scores' own shape are probabilities, as Mixup makes them: the right
        class is then the likeliest, the first of several."""
    def AngularMargin(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        kind: int | str = ...,
        margin: float = ...,
        scale: float = ...,
        **fields: Any,
    ) -> Any:
        """scale · cosines; in phase TRAIN that of the label is made smaller by a margin first.

        Bottoms: cosines N×C and a label for each; top: N×C scores for SoftmaxWithLoss. COSINE: cos a −
        margin (Wang et al. 2018, CosFace, arXiv:1801.09414); ARC: cos(a + margin), the margin in
        radians (Deng et al. 2019, ArcFace, arXiv:1801.07698), and beyond a + margin = π as there
        cos a − margin · sin margin. In phase TEST it is a Power layer's scale. Not of Caffe."""
    def ArgMax(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        out_max_val: bool = ...,
        top_k: int = ...,
        axis: int = ...,
        **fields: Any,
    ) -> Any:
        """The indices of the `top_k` largest numbers, the largest first, as floats.

        With `axis`: along it; with `out_max_val` the numbers themselves instead. Without `axis`: of
        all axes after the first as one, N×1×top_k, or N×2×top_k with the numbers behind the indices
        for `out_max_val` (and axes of 1 behind these where the bottom has more than 3). As in Caffe,
        and other than in torch, the larger index comes first where numbers are equal. There is no
        gradient."""
    def BNLL(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        **fields: Any,
    ) -> Any:
        """log(1 + exp(x)), the binomial normal log likelihood; torch's softplus.

        In place Caffe's gradient is sigmoid(y), of the result y that has overwritten x, where the
        derivative is sigmoid(x)."""
    def BatchNorm(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        use_global_stats: bool = ...,
        moving_average_fraction: float = ...,
        eps: float = ...,
        **fields: Any,
    ) -> Any:
        """(x − mean) / sqrt(var + eps) for each channel; no affine part: a Scale layer follows.

        The three blobs hold sums: of means, of variances, and of their weights. A TRAIN step does
        s ← λ s + 1, mean_sum ← λ mean_sum + mean, variance_sum ← λ variance_sum + var m / (m − 1)
        for m values a channel; TEST divides the sums by s (gives 0 where s is 0). No constant
        momentum of torch's gives the same, so the sums are kept. `use_global_stats` unset means
        true in TEST, false in TRAIN (Ioffe and Szegedy 2015, arXiv:1502.03167)."""
    def BatchReindex(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        **fields: Any,
    ) -> Any:
        """The items of bottom 0 in the order of bottom 1's indices; some of them twice, some never.

        Bottoms: N×…, and M indices from 0 to below N (fractions are cut off). Top: M×…. The
        gradients of an item that is taken several times add up; none goes to the indices."""
    def Bias(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        axis: int = ...,
        num_axes: int = ...,
        filler: Message = ...,
        **fields: Any,
    ) -> Any:
        """x + β for an x of any shape, which the top has.

        β is a param of `num_axes` axes' extents from `axis` on (−1: all behind it), which starts as 0;
        or the second bottom, of any shape that x has from `axis` on. torch would align it with the
        last axes."""
    def Clip(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        min: float = ...,
        max: float = ...,
        **fields: Any,
    ) -> Any:
        """x limited to min … max; the gradient passes between the bounds and on them.

        In place Caffe's gradient passes everywhere: it looks at the result, which is within the
        bounds."""
    def Concat(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        concat_dim: int = ...,
        axis: int = ...,
        **fields: Any,
    ) -> Any:
        """Bottoms joined along `axis` (default 1, the channels); all other axes must agree.

        Bottoms N×C₁×…, N×C₂×…; top N×(C₁ + C₂ + …)×…. It is torch's `cat`."""
    def ContrastiveLoss(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        margin: float = ...,
        legacy_version: bool = ...,
        **fields: Any,
    ) -> Any:
        """Σ (y d² + (1 − y) max(margin − d, 0)²) / 2N, d = |a − b| (Hadsell et al. 2006).

        Bottoms: a and b, N×C (axes of 1 may follow), and y: N numbers, 0 where the two are no pair.
        With `legacy_version` an unlike pair costs max(margin − d², 0). The gradient for d is Caffe's,
        which divides by d + 1e-4; y gets none."""
    def Convolution(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        num_output: int = ...,
        bias_term: bool = ...,
        pad: int | Sequence[int] = ...,
        kernel_size: int | Sequence[int] = ...,
        group: int = ...,
        stride: int | Sequence[int] = ...,
        weight_filler: Message = ...,
        bias_filler: Message = ...,
        pad_h: int = ...,
        pad_w: int = ...,
        kernel_h: int = ...,
        kernel_w: int = ...,
        stride_h: int = ...,
        stride_w: int = ...,
        engine: int | str = ...,
        axis: int = ...,
        force_nd_im2col: bool = ...,
        dilation: int | Sequence[int] = ...,
        **fields: Any,
    ) -> Any:
        """Cross-correlation of N×C×… with num_output kernels of C/group×k….

        Bottoms: N×C and any number of spatial axes behind `axis` (default 1). Top: N×num_output×out…,
        out = floor((in + 2 pad − dilation (k − 1) − 1) / stride) + 1 (pooling rounds up, this rounds
        down). Several bottoms make as many tops with one kernel. Params: weight num_output×C/group×k…,
        bias num_output. It is torch's, except that the weight is filled with zeros unless a
        `weight_filler` says otherwise, and that 1-D and 3-D kernels take one number for each axis."""
    def CosineProduct(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        num_output: int = ...,
        weight_filler: Message = ...,
        **fields: Any,
    ) -> Any:
        """The cosine of the angle between the bottom and each of num_output learned vectors.

        Bottom: N×…, flattened to K numbers; top: N×num_output, from −1 to 1. Param: weight
        num_output×K, whose rows' lengths don't count. Not of Caffe; as in Wang et al. 2017, NormFace
        (arXiv:1704.06369), whose Caffe has Normalize before an InnerProduct for it."""
    def Crop(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        axis: int = ...,
        offset: int | Sequence[int] = ...,
        **fields: Any,
    ) -> Any:
        """Bottom 0 cut to the size of bottom 1 from `axis` (default 2) on.

        It starts at `offset`: one number for all axes or one for each, default 0. Bottoms have
        equally many axes; the top has bottom 0's extents before `axis`, bottom 1's from it on.
        Bottom 1 gives its shape alone, no gradient goes to it."""
    def Data(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        source: str = ...,
        scale: float = ...,
        mean_file: str = ...,
        batch_size: int = ...,
        crop_size: int = ...,
        mirror: bool = ...,
        rand_skip: int = ...,
        backend: int | str = ...,
        force_encoded_color: bool = ...,
        prefetch: int = ...,
        **fields: Any,
    ) -> Any:
        """Pictures (or other arrays) from an LMDB or LevelDB, and their labels.

        Tops: N×C×H×W, or the database's own size without `transform_param.crop_size`; and N labels,
        which may be left out. The definition tells the channels by force_color, force_gray or a
        mean_value for each. The tops are inputs of the net; `torrefy.data.open` reads the database."""
    def Deconvolution(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        num_output: int = ...,
        bias_term: bool = ...,
        pad: int | Sequence[int] = ...,
        kernel_size: int | Sequence[int] = ...,
        group: int = ...,
        stride: int | Sequence[int] = ...,
        weight_filler: Message = ...,
        bias_filler: Message = ...,
        pad_h: int = ...,
        pad_w: int = ...,
        kernel_h: int = ...,
        kernel_w: int = ...,
        stride_h: int = ...,
        stride_w: int = ...,
        engine: int | str = ...,
        axis: int = ...,
        force_nd_im2col: bool = ...,
        dilation: int | Sequence[int] = ...,
        **fields: Any,
    ) -> Any:
        """Convolution's transpose: upsampling by learned kernels.

        Bottoms: N×C×…; tops: N×num_output×out…, out = stride (in − 1) + dilation (k − 1) + 1 − 2 pad;
        there is no output padding. Params: weight C×num_output/group×k… (torch's order too), bias
        num_output."""
    def Dropout(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        dropout_ratio: float = ...,
        **fields: Any,
    ) -> Any:
        """Drop each unit with probability `dropout_ratio` and scale the rest by 1 / (1 − ratio).

        The top has the bottom's shape. In TEST nothing happens, and nothing needs rescaling (Srivastava
        et al. 2014). As torch's."""
    def DummyData(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        data_filler: Messages = ...,
        num: int | Sequence[int] = ...,
        channels: int | Sequence[int] = ...,
        height: int | Sequence[int] = ...,
        width: int | Sequence[int] = ...,
        shape: Messages = ...,
        **fields: Any,
    ) -> Any:
        """Data from fillers: one `data_filler` for each top, one for all, or none for zeros.

        Shapes come from `shape`, or from num, channels, height and width, given once or for each
        top. A constant filler fills once; any other anew at each pass, from torch's random numbers
        (`torch.manual_seed`). The tops are data, not params: they are in no file of weights."""
    def ELU(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        alpha: float = ...,
        **fields: Any,
    ) -> Any:
        """x for x > 0, else alpha · (exp(x) − 1) (Clevert et al. 2015, arXiv:1511.07289).

        The top has the bottom's shape. As torch's."""
    def Eltwise(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        operation: int | str = ...,
        coeff: float | Sequence[float] = ...,
        stable_prod_grad: bool = ...,
        **fields: Any,
    ) -> Any:
        """The product, weighted sum or maximum of two or more bottoms of one shape, which the top has.

        A sum weighs its bottoms by `coeff`, one for each or none. There is no broadcasting. Where
        the first two are equal the gradient of MAX goes to the second; torch would share it out."""
    def Embed(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        num_output: int = ...,
        input_dim: int = ...,
        bias_term: bool = ...,
        weight_filler: Message = ...,
        bias_filler: Message = ...,
        **fields: Any,
    ) -> Any:
        """Row x of the weight, for every number x of the bottom, + b.

        The bottom holds indices from 0 to below `input_dim` (fractions are cut off), and gets no
        gradient; the top has an axis of `num_output` more. Params: weight input_dim×num_output, bias
        num_output (torch's Embedding has none; here `bias_term` is true by default)."""
    def EuclideanLoss(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        **fields: Any,
    ) -> Any:
        """Σ (a − b)² / 2N: half of torch's MSE loss of reduction "sum", over the batch size N.

        Bottoms: two of N numbers of anything; the axes behind N may differ, their count may not.
        Both get a gradient. Beyond Caffe a third bottom may have weights of the squares: one for each
        item, or as many as either; the divisor stays."""
    def Exp(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        base: float = ...,
        scale: float = ...,
        shift: float = ...,
        **fields: Any,
    ) -> Any:
        """base ^ (shift + scale · x); the default base of −1 stands for e.

        The top has the bottom's shape."""
    def Filter(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        **fields: Any,
    ) -> Any:
        """The items of each bottom for which the last bottom, the selector, is not 0.

        Bottoms: any number of N×…, and the selector, N (or N×1×…). Tops: M×… of each but the
        selector. M is known only when the numbers are: the definition's shapes have all N, as Caffe's
        first reshape. No gradient goes to the selector."""
    def Flatten(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        axis: int = ...,
        end_axis: int = ...,
        **fields: Any,
    ) -> Any:
        """The axes from `axis` to `end_axis` (default: the last) as one: N×C×H×W becomes N×(C·H·W)."""
    def HDF5Data(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        source: str = ...,
        batch_size: int = ...,
        shuffle: bool = ...,
        **fields: Any,
    ) -> Any:
        """Arrays from HDF5 files: each top is the dataset of its name.

        Tops: N of what the files hold; only they know the other axes. The tops are inputs of the
        net; `torrefy.data.open` reads the files."""
    def HDF5Output(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        file_name: str = ...,
        **fields: Any,
    ) -> Any:
        """Two bottoms for the datasets "data" and "label" of an HDF5 file.

        It has no top, so no output of a net asks for it: a net that is called writes nothing.
        `torrefy test` writes the file, the rows of every batch; a program does by
        `torrefy.data.output`. Caffe writes at each pass, and can do so once."""
    def HingeLoss(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        norm: int | str = ...,
        **fields: Any,
    ) -> Any:
        """Σ max(0, 1 − t · s) / N for every score s: t is 1 for the label's class, −1 for others.

        With `norm: L2` the terms are squared. Bottoms: scores, N×C (axes behind C count as classes,
        too), and N labels. This is no softmax-like loss of one margin: each class is for itself."""
    def Im2col(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        num_output: int = ...,
        bias_term: bool = ...,
        pad: int | Sequence[int] = ...,
        kernel_size: int | Sequence[int] = ...,
        group: int = ...,
        stride: int | Sequence[int] = ...,
        weight_filler: Message = ...,
        bias_filler: Message = ...,
        pad_h: int = ...,
        pad_w: int = ...,
        kernel_h: int = ...,
        kernel_w: int = ...,
        stride_h: int = ...,
        stride_w: int = ...,
        engine: int | str = ...,
        axis: int = ...,
        force_nd_im2col: bool = ...,
        dilation: int | Sequence[int] = ...,
        **fields: Any,
    ) -> Any:
        """The patch under a convolution's kernel at each of its places, as C·k… channels.

        N×C×… becomes N×(C·k…)×out…, out = floor((in + 2 pad − dilation (k − 1) − 1) / stride) + 1,
        over any number of spatial axes; C counts slowest. `convolution_param` gives the geometry;
        its num_output, group and fillers mean nothing here."""
    def ImageData(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        source: str = ...,
        scale: float = ...,
        mean_file: str = ...,
        batch_size: int = ...,
        crop_size: int = ...,
        mirror: bool = ...,
        rand_skip: int = ...,
        shuffle: bool = ...,
        new_height: int = ...,
        new_width: int = ...,
        is_color: bool = ...,
        root_folder: str = ...,
        resampling: int | str = ...,
        keep_aspect: bool = ...,
        **fields: Any,
    ) -> Any:
        """Pictures from a list of files, and their labels.

        Tops: N×C×H×W, C being 3, or 1 with `is_color: false`, H and W the crop's, else new_height
        and new_width, else each picture's own; and N labels. The tops are inputs of the net;
        `torrefy.data.open` reads the pictures.

        Beyond Caffe, the source may be a folder with a sub-folder for each class, or a table (.csv,
        .tsv, .jsonl): each further top is then the column of its name, of numbers or arrays."""
    def InfogainLoss(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        source: str = ...,
        axis: int = ...,
        **fields: Any,
    ) -> Any:
        """Σ over labels l and classes k of −H[l, k] · log max(p_k, 1e-20), over a number of labels.

        p = softmax(x) along `axis` (default 1). Bottoms: scores, a label for each prediction, and H,
        classes×classes; without a third bottom H is read from the BlobProto in the file `source`.
        Tops: a scalar, and on request the probabilities, which pass no gradient. With the identity
        for H it is SoftmaxWithLoss; `loss_param` is the same, but class weights go into H.

        The gradient is Caffe's, p · Σ H[l] − H[l] however small p, and none goes to H. Nets from
        before 2017 fed probabilities: such a net means another loss now."""
    def InnerProduct(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        num_output: int = ...,
        bias_term: bool = ...,
        weight_filler: Message = ...,
        bias_filler: Message = ...,
        axis: int = ...,
        transpose: bool = ...,
        **fields: Any,
    ) -> Any:
        """x·Wᵀ + b over everything from `axis` on, flattened to K numbers; axes before it stay.

        Bottom: N×…, top: N×num_output. Params: weight num_output×K (K×num_output with `transpose`),
        bias num_output. torch's Linear takes the last axis alone."""
    def Input(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        shape: Messages = ...,
        **fields: Any,
    ) -> Any:
        """The net's inputs: one top a blob, shapes from `input_param`, one each or one for all.

        An array that is given may have any batch size; the net is compiled for the definition's."""
    def LRN(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        local_size: int = ...,
        alpha: float = ...,
        beta: float = ...,
        norm_region: int | str = ...,
        k: float = ...,
        engine: int | str = ...,
        **fields: Any,
    ) -> Any:
        """Local response normalisation (Krizhevsky et al. 2012, section 3.3).

        ACROSS_CHANNELS: x · (k + α/n · Σ x²)^−β over n channels. WITHIN_CHANNEL:
        x · (1 + α · mean of x² over n×n)^−β, the mean by Caffe's padded AVE pooling; k is not used.
        The top has the bottom's shape, N×C×H×W. The first is torch's, the second torch has not."""
    def LSTM(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        num_output: int = ...,
        weight_filler: Message = ...,
        bias_filler: Message = ...,
        debug_info: bool = ...,
        expose_hidden: bool = ...,
        **fields: Any,
    ) -> Any:
        """Long short-term memory over T×N×…: T steps of N independent streams.

        With h ← cont · h before each step: i, f, o = σ(·), g = tanh(·) of W_x x + b + W_h h
        (+ W_static x_static), f ← cont · f; c ← f c + i g; h = o tanh(c) (Hochreiter and Schmidhuber
        1997; Donahue et al. 2015, arXiv:1411.4389). cont is T×N: 0 where a sequence begins, else 1.

        Bottoms: x, cont, an optional N×… static input and, with `expose_hidden`, h and c before the
        first step (1×N×D). Top: h of all steps, T×N×D; with `expose_hidden` also the last h and c.
        Otherwise the last state carries over to the next batch.
        Params: W_x 4D×K, b 4D, [W_static 4D×K'], W_h 4D×D, gates in the order i, f, o, g. (torch's
        LSTM has i, f, g, o, two biases and no cont.) T is fixed by the definition; an ONNX file
        starts from zeros at each run."""
    def LSTMUnit(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        **fields: Any,
    ) -> Any:
        """One step of an LSTM, as the LSTM layer makes it of its gates' inputs.

        i, f, o = σ(·), g = tanh(·) of the gate inputs; f ← cont · f; c = f c_before + i g;
        h = o tanh(c). Bottoms: c_before 1×N×D, gate inputs 1×N×4D in the order i, f, o, g, cont 1×N.
        Tops: c and h, 1×N×D. No gradient goes to cont."""
    def Log(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        base: float = ...,
        scale: float = ...,
        shift: float = ...,
        **fields: Any,
    ) -> Any:
        """The logarithm of shift + scale · x to a base; the default base of −1 stands for e.

        In place Caffe's backward takes the result y for x and writes the derivative over the top's
        diff before it multiplies by that: the gradient is (scale / (ln base · (shift + scale · y)))²
        whatever the layers above say."""
    def MVN(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        normalize_variance: bool = ...,
        across_channels: bool = ...,
        eps: float = ...,
        **fields: Any,
    ) -> Any:
        """(x − mean) / (deviation + eps) over each plane, or over each item with `across_channels`.

        The deviation is the square root of the biased variance, and eps (1e-9) is added to it, not
        to the variance as torch's norms do. Without `normalize_variance` only the mean is taken off.
        The top always has four axes (N×C×H×W), as in Caffe."""
    def MemoryData(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        batch_size: int = ...,
        channels: int = ...,
        height: int = ...,
        width: int = ...,
        **fields: Any,
    ) -> Any:
        """Arrays that a program hands over, and their labels.

        Tops: N×C×H×W from batch_size, channels, height and width; and N labels."""
    def MultinomialLogisticLoss(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        **fields: Any,
    ) -> Any:
        """Σ −log max(p, 1e-20) / N of the labels' probabilities p.

        Bottoms: probabilities, N×C (axes behind C count as classes, too), as a Softmax layer makes
        them, and N labels. SoftmaxWithLoss does both in one, and better where p is small. The
        gradient is Caffe's, −1 / (N · max(p, 1e-20)), however small p."""
    def PReLU(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        filler: Message = ...,
        channel_shared: bool = ...,
        **fields: Any,
    ) -> Any:
        """max(x, 0) + a · min(x, 0), a learned for each channel (He et al. 2015, arXiv:1502.01852).

        The top has the bottom's shape, N×C×…. Params: slope, of C numbers, or of no axes with
        `channel_shared`. It starts as 0.25."""
    def Padding(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        pad_method: int | str = ...,
        pad_l: int = ...,
        pad_r: int = ...,
        pad_t: int = ...,
        pad_b: int = ...,
        pad_value: float = ...,
        **fields: Any,
    ) -> Any:
        """Columns and rows around the bottom: N×C×H×W becomes N×C×(t + H + b)×(l + W + r).

        `pad_method: CONSTANT` fills them with `pad_value`, REPEAT with the nearest value of the edge;
        it must be given. A convolution's own `pad` is the same on both sides; before one this gives
        TensorFlow's padding "SAME", which for an even picture, a stride of 2 and a kernel of k is
        ⌊(k − 2) / 2⌋ to the left and the top, ⌈(k − 2) / 2⌉ to the right and the bottom. Caffe 1.0
        has no such layer; the parameters are those proposed in BVLC/caffe#6294."""
    def Parameter(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        shape: Message = ...,
        **fields: Any,
    ) -> Any:
        """A learned blob of the given shape; the top is the blob itself. It starts as zeros."""
    def Pooling(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        pool: int | str = ...,
        kernel_size: int = ...,
        stride: int = ...,
        pad: int = ...,
        kernel_h: int = ...,
        kernel_w: int = ...,
        stride_h: int = ...,
        stride_w: int = ...,
        pad_h: int = ...,
        pad_w: int = ...,
        engine: int | str = ...,
        global_pooling: bool = ...,
        round_mode: int | str = ...,
        **fields: Any,
    ) -> Any:
        """One number for each window of N×C×H×W: its maximum, its average, or one at random.

        Sizes are rounded up: ceil((in + 2 pad − k) / stride) + 1 (`round_mode: FLOOR` rounds down);
        with padding, a last window that would start beyond the picture and its left padding is
        dropped. MAX ignores the padding. AVE divides by the window clipped to the padded picture:
        padding counts, the overhang of rounding up does not. A second top of MAX holds the index
        of each maximum in its H×W plane.

        STOCHASTIC (Zeiler and Fergus 2013, arXiv:1301.3557), for bottoms that are nowhere negative:
        in TRAIN one value of the window with probability x / Σ x, in TEST Σ x² / Σ x. It takes no
        padding. Caffe has it on GPUs only, without a gradient in TEST; here it is everywhere, with
        the formula's gradient."""
    def Power(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        power: float = ...,
        scale: float = ...,
        shift: float = ...,
        **fields: Any,
    ) -> Any:
        """(shift + scale · x) ^ power.

        When scale · power is 0 the result is a constant (1 for power 0, else shift ^ power), with
        no gradient.

        In place Caffe's backward takes the result y for x and writes the derivative over the top's
        diff before it multiplies by that: the gradient is the derivative's square (scale² for power
        1) whatever the layers above say. Nets that are to be trained give the top another name."""
    def Python(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        module: str = ...,
        layer: str = ...,
        param_str: str = ...,
        share_in_parallel: bool = ...,
        **fields: Any,
    ) -> Any:
        """What a Python class computes, written for pycaffe: `class X(caffe.Layer)`.

        It runs only where the class is allowed by name (`--allow-python module.Class`,
        `allow_python=["module.Class"]`): a definition is no reason to run code. The module is found
        as Python finds modules, by PYTHONPATH; where pycaffe is not installed, `import caffe` gives
        it Layer, TRAIN and TEST while it is imported.

        The class has setup(bottom, top), reshape(bottom, top), forward(bottom, top) and
        backward(top, propagate_down, bottom), and is given param_str, phase and blobs (`add_blob`).
        Blobs have data and diff as numpy arrays on the CPU, float32 (float64 in a net of doubles),
        whatever the net's device. Shapes come from `setup` and `reshape` on bottoms of zeros. What
        `setup` writes into its blobs is what they are filled with. As nothing asks for a layer
        without tops, it doesn't run. share_in_parallel does nothing."""
    def RMSNorm(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        **fields: Any,
    ) -> Any:
        """x / √(mean of x²) over everything but the first axis: each picture's numbers, made as large.

        Bottom and top: N×…, as many numbers of any size. Nothing is learned. Not of Caffe; as in Zhang
        and Sennrich 2019 (arXiv:1910.07467) without its gain. SSD's Normalize divides by the length."""
    def RNN(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        num_output: int = ...,
        weight_filler: Message = ...,
        bias_filler: Message = ...,
        debug_info: bool = ...,
        expose_hidden: bool = ...,
        **fields: Any,
    ) -> Any:
        """The plain recurrent net over T×N×…: T steps of N independent streams.

        h ← tanh(W_x x + b + W_h (cont · h) (+ W_static x_static)); o = tanh(W_o h + b_o). cont is
        T×N: 0 where a sequence begins, else 1.

        Bottoms: x, cont, an optional N×… static input and, with `expose_hidden`, h before the first
        step (1×N×D). Top: o of all steps, T×N×D; with `expose_hidden` also the last h. Otherwise the
        last h carries over to the next batch. Params: W_x D×K, b D, [W_static D×K'], W_h D×D,
        W_o D×D, b_o D. (torch's RNN has no second layer W_o and no cont.) T is fixed by the
        definition; an ONNX file starts from zeros at each run."""
    def ReLU(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        negative_slope: float = ...,
        engine: int | str = ...,
        **fields: Any,
    ) -> Any:
        """max(x, 0) + negative_slope · min(x, 0).

        The top has the bottom's shape. The gradient at 0 is the slope, as in torch."""
    def Reduction(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        operation: int | str = ...,
        axis: int = ...,
        coeff: float = ...,
        **fields: Any,
    ) -> Any:
        """coeff times the SUM, ASUM (of magnitudes), SUMSQ (of squares) or MEAN over some axes.

        These are `axis` and all behind it; the top has the axes before. The default of 0 makes a
        scalar of everything."""
    def Reshape(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        shape: Message = ...,
        axis: int = ...,
        num_axes: int = ...,
        **fields: Any,
    ) -> Any:
        """The same numbers under another shape.

        A dim of 0 keeps the bottom's extent at that place, one −1 is inferred. Only `num_axes` axes
        from `axis` on are replaced (default: all); a negative `axis` counts from behind the last."""
    def SPP(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        pyramid_height: int = ...,
        pool: int | str = ...,
        engine: int | str = ...,
        **fields: Any,
    ) -> Any:
        """A pyramid of poolings of N×C×H×W, each over the whole plane, as one vector an item.

        Level l pools 2^l × 2^l bins: kernel and stride ceil(size / bins), padding (kernel · bins −
        size + 1) / 2 rounded down. The levels are flattened and joined: N×C(1 + 4 + 16 + …); a
        pyramid of one level stays N×C×1×1 (He et al. 2014, arXiv:1406.4729). The bins follow the
        picture's size at each pass."""
    def Scale(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        axis: int = ...,
        num_axes: int = ...,
        filler: Message = ...,
        bias_term: bool = ...,
        bias_filler: Message = ...,
        **fields: Any,
    ) -> Any:
        """x · γ (+ β) for an x of any shape, which the top has.

        γ is a param of `num_axes` axes' extents from `axis` on (default: one, the channels; −1: all
        behind it), which starts as 1; or the second bottom, of any shape that x has from `axis` on. β
        (`bias_term`, default false) has γ's shape. Params: γ and β; with two bottoms β alone."""
    def Sigmoid(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        engine: int | str = ...,
        **fields: Any,
    ) -> Any:
        """1 / (1 + exp(−x)); the top has the bottom's shape."""
    def SigmoidCrossEntropyLoss(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        ignore_label: int = ...,
        normalize: bool = ...,
        normalization: int | str = ...,
        class_weight: float | Sequence[float] = ...,
        label_smoothing: float = ...,
        **fields: Any,
    ) -> Any:
        """Σ −(t log σ(x) + (1 − t) log(1 − σ(x))) over a number of targets; torch's BCE with logits.

        Bottoms: scores x and targets t (0 to 1), as many. `loss_param` as for SoftmaxWithLoss, but
        `normalization` is BATCH_SIZE by default. A target counts unless it is `ignore_label` when cut
        to an integer, as Caffe does: ignore_label 0 leaves out all targets within −1 and 1.

        Beyond Caffe the terms may have weights: a third bottom has one for each item or for each
        target, `loss_param { class_weight }` one for each place along axis 1. They don't change what
        is divided by."""
    def Silence(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        **fields: Any,
    ) -> Any:
        """Takes bottoms of any shape and gives nothing, so that they are no outputs of the net."""
    def Slice(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        slice_dim: int = ...,
        slice_point: int | Sequence[int] = ...,
        axis: int = ...,
        **fields: Any,
    ) -> Any:
        """A bottom cut along `axis` at `slice_point`s, or into equal parts, one for each top.

        N×C×… becomes N×C₁×…, N×C₂×…. Slice points are places, where torch's `split` takes extents."""
    def Softmax(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        engine: int | str = ...,
        axis: int = ...,
        **fields: Any,
    ) -> Any:
        """exp(x) / Σ exp(x) along `axis` (default 1); the top has the bottom's shape. As torch's."""
    def SoftmaxWithLoss(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        engine: int | str = ...,
        axis: int = ...,
        **fields: Any,
    ) -> Any:
        """Σ −log max(p, FLT_MIN) of the labels' probabilities p = softmax(x), over a number of labels.

        Bottoms: scores with the classes along `softmax_param { axis }` (default 1), and a label for
        each prediction. Tops: a scalar, and on request the probabilities, which pass no gradient.

        `loss_param { ignore_label }` leaves labels out. `normalization` divides by the labels that
        count (VALID, the default), by all (FULL), by the extent of the axes before the classes
        (BATCH_SIZE) or by nothing (NONE); by 1 at least. That is torch's cross entropy but for a
        batch without a label that counts (0 here, NaN there), and for probabilities that vanish: they
        cost 87.3365, and their gradient is still p − 1.

        Beyond Caffe the terms may have weights: a third bottom has one for each item or for each
        label, `loss_param { class_weight }` one for each class. They don't change what is divided by.
        Beyond Caffe, labels of the scores' own shape (and more classes than one) are probabilities t,
        as Mixup makes them: the loss is Σ −t log max(p, FLT_MIN), over the same numbers, and its
        gradient p Σt − t. None of them can be ignored, and none goes to t.

        Beyond Caffe, `loss_param { label_smoothing }` s takes s from a label's probability and gives
        each of the K classes s / K (Szegedy et al. 2016, arXiv:1512.00567, section 7): a term becomes
        (1 − s) · −log p + s / K · Σ −log p_k."""
    def Split(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        **fields: Any,
    ) -> Any:
        """One bottom under several names; its gradient is their sum.

        Tops have the bottom's shape. Caffe inserts this where several layers read a blob; here no
        definition needs it."""
    def Swish(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        beta: float = ...,
        **fields: Any,
    ) -> Any:
        """x · sigmoid(beta · x) (Ramachandran et al. 2017, arXiv:1710.05941).

        The top has the bottom's shape. With the default beta of 1 this is torch's SiLU."""
    def TanH(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        engine: int | str = ...,
        **fields: Any,
    ) -> Any:
        """tanh(x); the top has the bottom's shape."""
    def Threshold(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        threshold: float = ...,
        **fields: Any,
    ) -> Any:
        """1 where x > threshold, else 0 (where they are equal, too).

        The top has the bottom's shape. There is no gradient."""
    def Tile(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        axis: int = ...,
        tiles: int = ...,
        **fields: Any,
    ) -> Any:
        """The bottom `tiles` times behind itself along `axis` (default 1): N×C becomes N×(tiles·C)."""
    def WindowData(
        self,
        *bottoms: Top,
        ntop: int = 1,
        in_place: bool = False,
        name: str = "",
        source: str = ...,
        scale: float = ...,
        mean_file: str = ...,
        batch_size: int = ...,
        crop_size: int = ...,
        mirror: bool = ...,
        fg_threshold: float = ...,
        bg_threshold: float = ...,
        fg_fraction: float = ...,
        context_pad: int = ...,
        crop_mode: str = ...,
        cache_images: bool = ...,
        root_folder: str = ...,
        **fields: Any,
    ) -> Any:
        """Windows of pictures, labelled by their overlap with objects (R-CNN).

        Tops: N×3×S×S, S being `transform_param.crop_size`; and N labels. The tops are inputs of the
        net; `torrefy.data.open` reads the pictures. (Girshick et al. 2014, arXiv:1311.2524.)"""

class _AngularMargin:
    COSINE: int
    ARC: int

class _AugmentationTarget:
    POINTS: int
    BOXES: int
    MASK: int

class _Convolution:
    DEFAULT: int
    CAFFE: int
    CUDNN: int

class _Data:
    LEVELDB: int
    LMDB: int

class _Eltwise:
    PROD: int
    SUM: int
    MAX: int

class _Filler:
    FAN_IN: int
    FAN_OUT: int
    AVERAGE: int

class _HingeLoss:
    L1: int
    L2: int

class _ImageData:
    OPENCV: int
    PILLOW_BILINEAR: int
    PILLOW_NEAREST: int
    PILLOW_BICUBIC: int

class _LRN:
    ACROSS_CHANNELS: int
    WITHIN_CHANNEL: int
    DEFAULT: int
    CAFFE: int
    CUDNN: int

class _Loss:
    FULL: int
    VALID: int
    BATCH_SIZE: int
    NONE: int

class _Padding:
    CONSTANT: int
    REPEAT: int

class _ParamSpec:
    STRICT: int
    PERMISSIVE: int

class _Phase:
    TRAIN: int
    TEST: int

class _Pooling:
    MAX: int
    AVE: int
    STOCHASTIC: int
    DEFAULT: int
    CAFFE: int
    CUDNN: int
    CEIL: int
    FLOOR: int

class _ReLU:
    DEFAULT: int
    CAFFE: int
    CUDNN: int

class _Reduction:
    SUM: int
    ASUM: int
    SUMSQ: int
    MEAN: int

class _SPP:
    MAX: int
    AVE: int
    STOCHASTIC: int
    DEFAULT: int
    CAFFE: int
    CUDNN: int

class _Sigmoid:
    DEFAULT: int
    CAFFE: int
    CUDNN: int

class _Softmax:
    DEFAULT: int
    CAFFE: int
    CUDNN: int

class _TanH:
    DEFAULT: int
    CAFFE: int
    CUDNN: int

class _Transformation:
    MEAN: int
    CHANNEL_MEAN: int
    STANDARDISE: int
    STANDARDISE_PIXELS: int
    PCA: int
    ZCA: int

class _Warp:
    BILINEAR: int
    NEAREST: int
    BICUBIC: int
    REFLECT: int
    CONSTANT: int
    REPLICATE: int
    WRAP: int

class _fit_values:
    STRETCH: int
    COVER: int
    CONTAIN: int

class _labels_values:
    CLASSES: int
    TARGETS: int

class _P(Enums):
    AngularMargin: _AngularMargin
    AugmentationTarget: _AugmentationTarget
    Convolution: _Convolution
    Data: _Data
    Eltwise: _Eltwise
    Filler: _Filler
    HingeLoss: _HingeLoss
    ImageData: _ImageData
    LRN: _LRN
    Loss: _Loss
    Padding: _Padding
    ParamSpec: _ParamSpec
    Phase: _Phase
    Pooling: _Pooling
    ReLU: _ReLU
    Reduction: _Reduction
    SPP: _SPP
    Sigmoid: _Sigmoid
    Softmax: _Softmax
    TanH: _TanH
    Transformation: _Transformation
    Warp: _Warp
    fit_values: _fit_values
    labels_values: _labels_values

L: _L
P: _P
