"""Pillow's resizing as ONNX nodes, for pictures of any size, to the bit."""

from __future__ import annotations

import PIL

VERTICAL_FIRST = 13
"""The version of Pillow from which on a picture whose height shrinks by more than twice the pixels
that its width does is resized vertically first; before it is always horizontally first."""
SUPPORT = {"BILINEAR": 1.0, "BICUBIC": 2.0}
"""How far each filter reaches, in old pixels where a picture is enlarged."""
_FILTER = {
    # 1 − |x|
    "BILINEAR": """
        {a}_f = Sub(one_d, {a}_x)
        {a}_filter = Max({a}_f, zero_d)
    """,
    # Keys' cubic with a = −1/2, in Pillow's order of operations: it decides the last bit.
    "BICUBIC": """
        {a}_i0 = Mul({a}_x, bc_near)
        {a}_i1 = Sub({a}_i0, bc_mid)
        {a}_i2 = Mul({a}_i1, {a}_x)
        {a}_i3 = Mul({a}_i2, {a}_x)
        {a}_inner = Add({a}_i3, one_d)
        {a}_o0 = Sub({a}_x, bc_five)
        {a}_o1 = Mul({a}_o0, {a}_x)
        {a}_o2 = Add({a}_o1, bc_eight)
        {a}_o3 = Mul({a}_o2, {a}_x)
        {a}_o4 = Sub({a}_o3, bc_four)
        {a}_outer = Mul({a}_o4, bc_a)
        {a}_isinner = Less({a}_x, one_d)
        {a}_isouter = Less({a}_x, two_d)
        {a}_tail = Where({a}_isouter, {a}_outer, zero_d)
        {a}_filter = Where({a}_isinner, {a}_inner, {a}_tail)
    """,
}
CONSTANTS = """
    double zero_d = {0.0}, double half_d = {0.5}, double one_d = {1.0}, double two_d = {2.0},
    double bc_near = {1.5}, double bc_mid = {2.5}, double bc_five = {5.0}, double bc_eight = {8.0},
    double bc_four = {4.0}, double bc_a = {-0.5}, double unit = {4194304.0},
    double half_unit = {2097152.0}, double digit = {2048.0}, double half_digit = {1024.0},
    double top_d = {255.0}, int64 zero = {0}, int64 one = {1}, int64 two = {2},
    int64[1] zeros = {0}, int64[1] ones = {1}, int64[1] twos = {2}, int64[1] threes = {3}
"""
"""Initializers that the nodes below use."""

_WEIGHTS = """
    {a}_old_d = Cast<to = 11>({a}_old)
    {a}_new_d = Cast<to = 11>({a}_new)
    {a}_scale = Div({a}_old_d, {a}_new_d)
    {a}_shrink = Max({a}_scale, one_d)
    {a}_support = Mul({a}_shrink, support)
    {a}_stretch = Div(one_d, {a}_shrink)
    {a}_place = Range({a}_start, {a}_stop, one)
    {a}_place_d = Cast<to = 11>({a}_place)
    {a}_middle = Add({a}_place_d, half_d)
    {a}_centres = Mul({a}_middle, {a}_scale)
    {a}_centre = Unsqueeze({a}_centres, ones)
    {a}_lo0 = Sub({a}_centre, {a}_support)
    {a}_lo1 = Add({a}_lo0, half_d)
    {a}_first = Floor({a}_lo1)
    {a}_hi0 = Add({a}_centre, {a}_support)
    {a}_hi1 = Add({a}_hi0, half_d)
    {a}_end = Floor({a}_hi1)
    {a}_pixels = Range(zero, {a}_old, one)
    {a}_pixel = Cast<to = 11>({a}_pixels)
    {a}_d0 = Sub({a}_pixel, {a}_centre)
    {a}_d1 = Add({a}_d0, half_d)
    {a}_d2 = Mul({a}_d1, {a}_stretch)
    {a}_x = Abs({a}_d2)
    {filter}
    {a}_before = Less({a}_pixel, {a}_first)
    {a}_inside = Less({a}_pixel, {a}_end)
    {a}_w0 = Where({a}_inside, {a}_filter, zero_d)
    {a}_w1 = Where({a}_before, zero_d, {a}_w0)
    {a}_sum = ReduceSum<keepdims = 1>({a}_w1, ones)
    {a}_w2 = Div({a}_w1, {a}_sum)
    {a}_w3 = Mul({a}_w2, unit)
    {a}_size = Abs({a}_w3)
    {a}_s0 = Add({a}_size, half_d)
    {a}_s1 = Floor({a}_s0)
    {a}_sign = Sign({a}_w3)
    {a}_whole = Mul({a}_s1, {a}_sign)
    {a}_g0 = Add({a}_whole, half_digit)
    {a}_g1 = Div({a}_g0, digit)
    {a}_great = Floor({a}_g1)
    {a}_g2 = Mul({a}_great, digit)
    {a}_small = Sub({a}_whole, {a}_g2)
    {a}_digits_d = Concat<axis = 0>({a}_great, {a}_small)
    {a}_digits = Cast<to = 1>({a}_digits_d)
"""
"""The weights of one axis, as Pillow 2.7 and later computes them (precompute_coeffs and
normalize_coeffs_8bpc in its Resample.c): whole numbers of 2⁻²².

They are split into two digits of 11 bits, so that a product in float32 with pixels of 8 bits is
exact, and its sum, too, of up to 64 pixels (of more, where the small digits' sum stays below 2²⁴).
"""

_LEVELS = """
    {a}_parts_great, {a}_parts_small = Split<axis = {axis}, num_outputs = 2>({a}_product)
    {a}_l0 = Cast<to = 11>({a}_parts_great)
    {a}_l1 = Cast<to = 11>({a}_parts_small)
    {a}_l2 = Mul({a}_l0, digit)
    {a}_l3 = Add({a}_l2, {a}_l1)
    {a}_l4 = Add({a}_l3, half_unit)
    {a}_l5 = Div({a}_l4, unit)
    {a}_l6 = Floor({a}_l5)
    {a}_l7 = Clip({a}_l6, zero_d, top_d)
    {a}_levels = Cast<to = 1>({a}_l7)
"""
"""Each pass ends in levels of 0 to 255, as Pillow's does."""


def averaged(kind: str) -> str:
    """Nodes from `planes`, N×C×H×W of bytes, to `resized`, N×C×h×w of whole floats.

    They use x_old, x_new, x_start, x_stop and the same of y (scalars: the old size, the new one,
    and what of that is wanted), and an initializer `support`.
    """
    text = "".join(
        _WEIGHTS.replace("{filter}", _FILTER[kind]).replace("{a}", axis) for axis in "xy"
    )
    text += """
        planes_f = Cast<to = 1>(planes)
        x_columns = Transpose<perm = [1, 0]>(x_digits)
    """
    if _pillow() < VERTICAL_FIRST:
        return text + _passes("xy", "resized")
    return (
        text
        + f"""
        x_less = Sub(x_old, x_new)
        y_less = Sub(y_old, y_new)
        x_twice = Mul(x_less, two)
        y_shrinks = Greater(y_less, zero)
        y_more = Greater(y_less, x_twice)
        tall = And(y_shrinks, y_more)
        resized = If(tall) <
            then_branch = down () => (float[n, c, h, w] down) {{{_passes("yx", "down")}}},
            else_branch = across () => (float[n, c, h, w] across) {{{_passes("xy", "across")}}}
        >
    """
    )


def _passes(order: str, made: str) -> str:
    """Both passes, that along the first axis first."""
    text, given = "", "planes_f"
    for axis in order:
        name = f"{made}_{axis}"
        left, right = (given, "x_columns") if axis == "x" else ("y_digits", given)
        text += f"{name}_product = MatMul({left}, {right})\n"
        text += _LEVELS.format(a=name, axis=3 if axis == "x" else 2)
        given = f"{name}_levels"
    return f"{text}{made} = Identity({given})\n"


def _pillow() -> int:
    return int(PIL.__version__.partition(".")[0])


def nearest() -> str:
    """As `averaged`, each new pixel the old one at its centre.

    Pillow adds the step to the place pixel by pixel, and so does this: it decides where a centre
    lies between two pixels.
    """
    text = ""
    for axis, gathered in (("x", 3), ("y", 2)):
        text += """
        {a}_old_d = Cast<to = 11>({a}_old)
        {a}_new_d = Cast<to = 11>({a}_new)
        {a}_step = Div({a}_old_d, {a}_new_d)
        {a}_half = Mul({a}_step, half_d)
        {a}_first = Reshape({a}_half, ones)
        {a}_others = Sub({a}_new, one)
        {a}_count = Reshape({a}_others, ones)
        {a}_steps = Expand({a}_step, {a}_count)
        {a}_all = Concat<axis = 0>({a}_first, {a}_steps)
        {a}_places = CumSum({a}_all, zero)
        {a}_from = Reshape({a}_start, ones)
        {a}_to = Reshape({a}_stop, ones)
        {a}_wanted = Slice({a}_places, {a}_from, {a}_to)
        {a}_floor = Cast<to = 7>({a}_wanted)
        {a}_last = Sub({a}_old, one)
        {a}_index = Min({a}_floor, {a}_last)
        {a}_taken = Gather<axis = {axis}>({given}, {a}_index)
        """.format(a=axis, axis=gathered, given="planes" if axis == "x" else "x_taken")
    return text + "resized = Cast<to = 1>(y_taken)\n"
