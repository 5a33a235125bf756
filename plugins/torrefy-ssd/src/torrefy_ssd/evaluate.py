"""DetectionEvaluate: which detections are right."""

from __future__ import annotations

import torch
from torch import Tensor
from torrefy.layers.base import Layer, Shape, layer, shape_text

from torrefy_ssd.boxes import overlap
from torrefy_ssd.objects import Objects, check_objects, read_objects
from torrefy_ssd.schema import DetectionEvaluateParameter


@layer("DetectionEvaluate")
class DetectionEvaluate(Layer):
    """Rows from which the mean average precision is made: which detections are right.

    Bottoms: detections 1×1×M×7, as DetectionOutput makes them, and objects 1×1×G×8, as
    AnnotatedData gives them. Top: 1×1×(C' + M')×5, first for each class but the background (−1,
    label, number of objects, −1, −1), then for each detection (picture, label, score, right,
    wrong); rows without a detection are left out. They go by picture, then label; where a picture
    has objects of the label, by falling score.

    A detection is right, if of the objects of its picture and label the one that it overlaps most
    is overlapped by `overlap_threshold` at least, and no better detection has found that one. Where
    it is difficult and `evaluate_difficult_gt` is false, the detection is neither.

    Boxes are compared in shares of the picture. SSD's Caffe does that, too, unless
    `name_size_file` tells it the pictures' pixels; no file is read here.
    """

    param = "detection_evaluate_param"
    fields = DetectionEvaluateParameter
    example = "detection_evaluate_param { num_classes: 21 evaluate_difficult_gt: false }"
    example_bottoms = ((1, 1, 3, 7), (1, 1, 2, 8))
    no_onnx = "inference has no objects to compare with"
    bottoms = (2, 2)
    in_place = False
    fresh = True

    num_classes: int
    background_label_id: int
    overlap_threshold: float
    evaluate_difficult_gt: bool

    def setup(self, *bottoms: Shape) -> None:
        """Check the shapes."""
        detections, objects = bottoms
        if len(detections) != 4 or detections[:2] != (1, 1) or detections[3] != 7:
            raise self.error(
                f"bottom 0 must hold detections, 1x1xMx7, found {shape_text(detections)}",
                field="bottom",
            )
        check_objects(self, 1, objects)
        self.labels = [c for c in range(self.num_classes) if c != self.background_label_id]

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        """As if every row were a detection; SSD says so, too."""
        return [(1, 1, len(self.labels) + bottoms[0][2], 5)]

    def forward(self, *bottoms: Tensor) -> Tensor:
        """Compare."""
        table = bottoms[0].detach().reshape(-1, 7)
        objects = read_objects(self, bottoms[1], self.num_classes, self.background_label_id)
        counted = objects.label
        if not self.evaluate_difficult_gt:
            counted = counted[~objects.difficult]
        rows = [[-1.0, c, float((counted == c).sum()), -1.0, -1.0] for c in self.labels]
        found = table[(table[:, 0] != -1) & (table[:, 1] != -1)]
        result = [table.new_tensor(rows)]
        for picture in torch.unique(found[:, 0]):  # in rising order
            of_picture = found[found[:, 0] == picture]
            there = objects.those(objects.picture == picture)
            for label in torch.unique(of_picture[:, 1]):
                mine = of_picture[of_picture[:, 1] == label]
                result.append(self.judged(mine, there.those(there.label == label)))
        return torch.cat(result).unsqueeze(0).unsqueeze(0)

    def judged(self, found: Tensor, objects: Objects) -> Tensor:
        """The rows of one picture's detections of one label."""
        if len(objects.box):
            found = found[found[:, 2].sort(descending=True, stable=True).indices]
        right = [False] * len(found)
        wrong = [True] * len(found)
        taken: set[int] = set()
        if len(objects.box):
            most, best = overlap(found[:, 3:].unsqueeze(1), objects.box).max(1)
            for i, (share, thing) in enumerate(zip(most.tolist(), best.tolist(), strict=True)):
                if share < self.overlap_threshold:
                    continue
                wrong[i] = False
                if self.evaluate_difficult_gt or not objects.difficult[thing]:
                    right[i] = thing not in taken
                    wrong[i] = not right[i]
                    taken.add(thing)
        judgement = found.new_tensor([right, wrong]).T
        return torch.cat([found[:, :3], judgement], 1)
