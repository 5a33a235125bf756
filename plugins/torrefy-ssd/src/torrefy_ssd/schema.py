"""What SSD's Caffe adds to the definition language; nothing here imports torch."""

from __future__ import annotations

from typing import Literal

from torrefy.schema.fields import Fields, Filler, field

Code = Literal["CORNER", "CENTER_SIZE", "CORNER_SIZE"]


class NonMaximumSuppressionParameter(Fields):
    """Which of several boxes of one object is left."""

    nms_threshold: float = field(
        0.3, doc="overlap from which on the lesser of two boxes goes", at_least=0
    )
    top_k: int | None = field(doc="best boxes that are looked at; all where absent or negative")
    eta: float = field(
        1.0,
        doc="factor of the threshold after each box kept, while it is above 0.5",
        above=0,
        at_most=1,
    )


class ResizeParameter(Fields):
    """How a picture comes to its size."""

    prob: float = field(1.0, doc="probability of resizing")
    resize_mode: Literal["WARP", "FIT_SMALL_SIZE", "FIT_LARGE_SIZE_AND_PAD"] = field(
        "WARP", doc="to height x width; the shorter side to it; the longer to it, and pad"
    )
    height: int = field(0, doc="height in pixels")
    width: int = field(0, doc="width in pixels")
    pad_mode: Literal["CONSTANT", "MIRRORED", "REPEAT_NEAREST"] = field(
        "CONSTANT", doc="what the margins of FIT_LARGE_SIZE_AND_PAD hold"
    )
    pad_value: list[float] = field(doc="the constant, one or one for each channel")
    interp_mode: list[Literal["LINEAR", "AREA", "NEAREST", "CUBIC", "LANCZOS4"]] = field(
        doc="interpolation; one of several by chance"
    )
    height_scale: int = field(0, doc="for FIT_SMALL_SIZE: height that the boxes are scaled by")
    width_scale: int = field(0, doc="for FIT_SMALL_SIZE: width that the boxes are scaled by")


class SaltPepperParameter(Fields):
    """Pixels set to fixed values."""

    fraction: float = field(0.0, doc="share of the pixels")
    value: list[float] = field(doc="values that they are set to")


class NoiseParameter(Fields):
    """Ways to spoil a picture; one of those that are on is taken by chance."""

    prob: float = field(0.0, doc="probability of any")
    hist_eq: bool = field(False, doc="equalise the histogram")
    inverse: bool = field(False, doc="invert the colours")
    decolorize: bool = field(False, doc="to grey")
    gauss_blur: bool = field(False, doc="blur")
    jpeg: float = field(-1.0, doc="quality of a JPEG compression; negative: none")
    posterize: bool = field(False, doc="fewer levels")
    erode: bool = field(False, doc="erode")
    saltpepper: bool = field(False, doc="noise of single pixels")
    saltpepper_param: SaltPepperParameter = field(doc="of that noise")
    clahe: bool = field(False, doc="equalise the histogram locally")
    convert_to_hsv: bool = field(False, doc="to HSV")
    convert_to_lab: bool = field(False, doc="to Lab")


class DistortionParameter(Fields):
    """Changes of colour, each with a probability."""

    brightness_prob: float = field(0.0, doc="probability of a change of brightness")
    brightness_delta: float = field(0.0, doc="largest addition, of 255")
    contrast_prob: float = field(0.0, doc="probability of a change of contrast")
    contrast_lower: float = field(0.0, doc="smallest factor")
    contrast_upper: float = field(0.0, doc="largest factor")
    hue_prob: float = field(0.0, doc="probability of a change of hue")
    hue_delta: float = field(0.0, doc="largest addition, of 180")
    saturation_prob: float = field(0.0, doc="probability of a change of saturation")
    saturation_lower: float = field(0.0, doc="smallest factor")
    saturation_upper: float = field(0.0, doc="largest factor")
    random_order_prob: float = field(0.0, doc="probability that the channels change places")


class ExpansionParameter(Fields):
    """A picture set into a larger one of the mean colour."""

    prob: float = field(1.0, doc="probability")
    max_expand_ratio: float = field(1.0, doc="largest ratio of the sides")


class EmitConstraint(Fields):
    """Which boxes count as lying in a crop."""

    emit_type: Literal["CENTER", "MIN_OVERLAP"] = field("CENTER", doc="by centre or by overlap")
    emit_overlap: float = field(0.0, doc="for MIN_OVERLAP: the share that must be inside")


class Sampler(Fields):
    """Size and form of a crop."""

    min_scale: float = field(1.0, doc="smallest share of the picture's sides")
    max_scale: float = field(1.0, doc="largest share")
    min_aspect_ratio: float = field(1.0, doc="smallest width by height")
    max_aspect_ratio: float = field(1.0, doc="largest width by height")


class SampleConstraint(Fields):
    """What a crop and a box in it must fulfil, where given."""

    min_jaccard_overlap: float | None = field(doc="intersection over union, at least")
    max_jaccard_overlap: float | None = field(doc="at most")
    min_sample_coverage: float | None = field(doc="share of the crop that the box covers, at least")
    max_sample_coverage: float | None = field(doc="at most")
    min_object_coverage: float | None = field(doc="share of the box that the crop covers, at least")
    max_object_coverage: float | None = field(doc="at most")


class BatchSampler(Fields):
    """One way of taking crops; training takes one of all crops by chance."""

    use_original_image: bool = field(True, doc="crop the picture itself")
    sampler: Sampler = field(doc="size and form of the crops")
    sample_constraint: SampleConstraint = field(doc="which crops are taken")
    max_sample: int | None = field(doc="most crops taken")
    max_trials: int = field(100, doc="most crops tried")


class AnnotatedDataParameter(Fields):
    """How AnnotatedData takes crops."""

    batch_sampler: list[BatchSampler] = field(doc="ways of taking crops")
    label_map_file: str | None = field(doc="names of the labels")
    anno_type: Literal["BBOX"] | None = field(doc="kind of annotation, where the data don't say")


class PermuteParameter(Fields):
    """Of Permute."""

    order: list[int] = field(doc="the bottom's axes in their new order; others follow", at_least=0)


class NormalizeParameter(Fields):
    """Of Normalize."""

    across_spatial: bool = field(True, doc="one norm a picture, not one at each place")
    scale_filler: Filler | None = field(doc="what fills the scale; 1 where absent")
    channel_shared: bool = field(True, doc="one scale for all channels, not one for each")
    eps: float = field(1e-10, doc="is added to the sum of the squares", at_least=0)


class PriorBoxParameter(Fields):
    """Of PriorBox."""

    min_size: list[float] = field(doc="sides in pixels of the smaller squares", above=0)
    max_size: list[float] = field(
        doc="one for each min_size: a square of side sqrt(min_size · max_size) more"
    )
    aspect_ratio: list[float] = field(doc="width by height of further boxes", above=0)
    flip: bool = field(True, doc="for each aspect_ratio the inverse, too")
    clip: bool = field(False, doc="cut the boxes at the picture's borders")
    variance: list[float] = field(doc="one or four; 0.1 where absent", above=0)
    img_size: int | None = field(doc="the picture's sides, where not bottom 1's", above=0)
    img_h: int | None = field(doc="the picture's height", above=0)
    img_w: int | None = field(doc="the picture's width", above=0)
    step: float | None = field(doc="pixels from box to box; picture by plane where absent", above=0)
    step_h: float | None = field(doc="pixels from row to row", above=0)
    step_w: float | None = field(doc="pixels from column to column", above=0)
    offset: float = field(0.5, doc="place of the first centre, in steps")


class SaveOutputParameter(Fields):
    """What SSD's DetectionOutput writes to files; Torrefy's doesn't."""

    output_directory: str | None = field(doc="folder")
    output_name_prefix: str | None = field(doc="start of the files' names")
    output_format: str | None = field(doc="VOC, COCO or ILSVRC")
    label_map_file: str | None = field(doc="names of the labels")
    name_size_file: str | None = field(doc="names and sizes of the pictures")
    num_test_image: int | None = field(doc="number of pictures")
    resize_param: ResizeParameter = field(doc="how the pictures were resized")


class DetectionOutputParameter(Fields):
    """Of DetectionOutput."""

    num_classes: int = field(doc="classes, the background among them", at_least=1)
    share_location: bool = field(True, doc="one box for all classes, not one for each")
    background_label_id: int = field(0, doc="the background's class; -1: there is none")
    nms_param: NonMaximumSuppressionParameter = field(doc="suppression within a class")
    save_output_param: SaveOutputParameter = field(doc="not used: nothing is written")
    code_type: Code = field("CORNER", doc="what the location numbers mean")
    keep_top_k: int = field(-1, doc="most boxes of one picture; -1: all")
    variance_encoded_in_target: bool = field(
        False, doc="the location numbers are not to be multiplied by the variances"
    )
    confidence_threshold: float | None = field(doc="scores must be above this")
    visualize: bool = field(False, doc="not used: nothing is shown")
    visualize_threshold: float | None = field(doc="not used")
    save_file: str | None = field(doc="not used")


class DetectionEvaluateParameter(Fields):
    """Of DetectionEvaluate."""

    num_classes: int = field(doc="classes, the background among them", at_least=1)
    background_label_id: int = field(0, doc="the background's class; -1: there is none")
    overlap_threshold: float = field(0.5, doc="overlap from which on an object is found", above=0)
    evaluate_difficult_gt: bool = field(True, doc="objects marked difficult count")
    name_size_file: str | None = field(doc="not used: boxes are compared in shares of the picture")
    resize_param: ResizeParameter = field(doc="not used")


class MultiBoxLossParameter(Fields):
    """Of MultiBoxLoss."""

    loc_loss_type: Literal["L2", "SMOOTH_L1"] = field("SMOOTH_L1", doc="loss of the locations")
    conf_loss_type: Literal["SOFTMAX", "LOGISTIC"] = field("SOFTMAX", doc="loss of the scores")
    loc_weight: float = field(1.0, doc="weight of the locations' loss")
    num_classes: int = field(doc="classes, the background among them", at_least=1)
    share_location: bool = field(True, doc="one box for all classes, not one for each")
    match_type: Literal["BIPARTITE", "PER_PREDICTION"] = field(
        "PER_PREDICTION", doc="each object's best prior; and each prior that overlaps enough"
    )
    overlap_threshold: float = field(0.5, doc="for PER_PREDICTION: overlap that is enough")
    use_prior_for_matching: bool = field(True, doc="match priors, not the decoded predictions")
    background_label_id: int = field(0, doc="the background's class; -1: there is none")
    use_difficult_gt: bool = field(True, doc="objects marked difficult count")
    do_neg_mining: bool | None = field(doc="older than mining_type: false is NONE")
    neg_pos_ratio: float = field(3.0, doc="MAX_NEGATIVE: negatives for each match", at_least=0)
    neg_overlap: float = field(0.5, doc="MAX_NEGATIVE: priors below this overlap are negatives")
    code_type: Code = field("CORNER", doc="what the location numbers mean")
    encode_variance_in_target: bool = field(
        False, doc="the location numbers are not to be multiplied by the variances"
    )
    map_object_to_agnostic: bool = field(False, doc="all objects are of one class")
    ignore_cross_boundary_bbox: bool = field(
        False, doc="boxes that cross the picture's border are not matched"
    )
    bp_inside: bool = field(False, doc="no loss for coordinates outside the picture")
    mining_type: Literal["NONE", "MAX_NEGATIVE", "HARD_EXAMPLE"] | None = field(
        doc="which priors' scores count: all, matches and the worst negatives (where absent), "
        "the worst of all"
    )
    nms_param: NonMaximumSuppressionParameter | None = field(
        doc="suppression among the priors that are mined"
    )
    sample_size: int = field(64, doc="HARD_EXAMPLE: priors of each picture", above=0)
    use_prior_for_nms: bool = field(False, doc="for nms_param: priors, not predictions")


class ReLU6Parameter(Fields):
    """Of ReLU6."""

    negative_slope: float = field(0.0, doc="slope below 0")
    engine: Literal["DEFAULT", "CAFFE", "CUDNN"] = field("DEFAULT", doc="not used")


class SmoothL1LossParameter(Fields):
    """Of SmoothL1Loss."""

    sigma: float = field(1.0, doc="differences below 1 / sigma² are squared", above=0)


class ShuffleChannelParameter(Fields):
    """Of ShuffleChannel."""

    group: int = field(1, doc="groups that the channels are dealt out from", above=0)


class LayerParameter(Fields, extends="caffe.LayerParameter"):
    """The parameters of SSD's layer types."""

    annotated_data_param: AnnotatedDataParameter = field(doc="of AnnotatedData")
    multibox_loss_param: MultiBoxLossParameter = field(doc="of MultiBoxLoss")
    permute_param: PermuteParameter = field(doc="of Permute")
    prior_box_param: PriorBoxParameter = field(doc="of PriorBox")
    detection_output_param: DetectionOutputParameter = field(doc="of DetectionOutput")
    detection_evaluate_param: DetectionEvaluateParameter = field(doc="of DetectionEvaluate")
    norm_param: NormalizeParameter = field(doc="of Normalize")
    smooth_l1_loss_param: SmoothL1LossParameter = field(doc="of SmoothL1Loss")
    relu6_param: ReLU6Parameter = field(doc="of ReLU6")
    shuffle_channel_param: ShuffleChannelParameter = field(doc="of ShuffleChannel")


class TransformationParameter(Fields, extends="caffe.TransformationParameter"):
    """How AnnotatedData changes pictures and boxes."""

    resize_param: list[ResizeParameter] = field(
        doc="size of the pictures; MobileNet-YOLO's takes several, and one by chance"
    )
    noise_param: NoiseParameter | None = field(doc="noise")
    distort_param: DistortionParameter | None = field(doc="changes of colour")
    expand_param: ExpansionParameter | None = field(doc="pictures set into larger ones")
    emit_constraint: EmitConstraint | None = field(doc="which boxes lie in a crop")
    crop_h: int = field(0, doc="height of the crop")
    crop_w: int = field(0, doc="width of the crop")


class SolverParameter(Fields, extends="caffe.SolverParameter"):
    """How SSD's solver tests detection."""

    eval_type: str = field("classification", doc="what test nets are for: or detection")
    ap_version: str = field("Integral", doc="average precision: 11point, MaxIntegral, Integral")
    show_per_class_result: bool = field(False, doc="average precision of each class")
    plateau_winsize: list[int] = field(doc="for lr_policy plateau: iterations without progress")


PLUGIN = "ssd"
"""The name under which Torrefy knows the plugin, of its entry point."""

EXTENSIONS = (LayerParameter, TransformationParameter, SolverParameter)
