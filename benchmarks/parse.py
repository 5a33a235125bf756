"""Reading a prototxt with the place of every field against protobuf's own reader without.

Exit code 1 when reading takes more than 4 times as long.
"""

from __future__ import annotations

import sys

from google.protobuf import text_format

from harness import compare
from nets import resnet_prototxt
from torrefy.schema import new_message, parse_text

LIMIT = 4.0


def main() -> int:
    """Compare on some 10,000 lines; the exit code."""
    one = resnet_prototxt(152).replace("{", "{\n").replace("}", "\n}")
    text = "\n".join([one] * (1 + 10_000 // one.count("\n"))).replace('name: "ResNet"', "")
    print(f"{text.count(chr(10)):,} lines", file=sys.stderr)
    ratio = compare(
        "parse", lambda: parse_text(text),
        lambda: text_format.Parse(text, new_message("caffe.NetParameter")), limit=LIMIT,
    )  # fmt: skip
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
