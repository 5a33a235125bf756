"""How many of other people's nets compile, and what the others wait for.

Every net of `../shared/corpus` is read, upgraded and compiled with shapes in the phases that it is
for. Exit code 1 when 2 % or more fail of those that need only Caffe's own layer types and fields
and those of installed plugins. Each of the others waits for a dialect, by what it has that nobody
knows here; the corpus's census tells which fork has that.

    python benchmarks/corpus.py [--failures]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor
from rich.console import Console
from rich.progress import track
from rich.table import Table

from corpus_nets import CORPUS, REFUSED, Attempt, File, attempt, files, stock_types
from torrefy.errors import Problem
from torrefy.layers.registry import layer_types
from torrefy.schema import text

LIMIT = 0.02
CAFFE = "Caffe 1.0"
UNKNOWN = "no schema found"
"""The census's words for what no fork has."""
PULLS = "pull-request forks only"
CRASHED = "Torrefy crashed"
MOST_REASONS = 25
"""More are told with --failures."""

FORKS = {
    "BVLC": PULLS, "BVLC PR": PULLS, "BoLiu-SVCL": "video-caffe", "C3D": "C3D",
    "CMU-Perceptual-Computing-Lab": "OpenPose", "HyeonwooNoh": "DeconvNet",
    "LisaAnne": "LRCN", "MhLiao": "TextBoxes++", "MyCaffe": "MyCaffe", "NVIDIA": "NVCaffe",
    "alexgkendall": "SegNet", "daijifeng001": "R-FCN / Faster R-CNN fork",
    "eric612": "MobileNet-YOLO", "facebookarchive": "C3D", "farmingyard": "ShuffleNet",
    "happynear": "caffe-windows (happynear)", "hszhao": "DeepLab v2 / PSPNet",
    "intel": "Intel Caffe", "lmb-freiburg": "FlowNet2", "tidsp": "TI Jacinto",
    "torrvision": "CRF as RNN", "weiliu89": "SSD", "wy1iu": "SphereFace", "ydwen": "caffe-face",
}  # fmt: skip
"""Whose fork is which dialect, where the census has it as its section 4 calls it."""
TYPES = {
    "L1Loss": FORKS["NVIDIA"], "SmoothL1LossOHEM": FORKS["daijifeng001"],
    "SoftmaxWithLossOHEM": FORKS["daijifeng001"],
}  # fmt: skip
"""Types for which the census lists others first: DetectNet's, and those without parameters."""

OUTCOMES = ("compile", "noted", "fail", "wait", "broken")
MEANINGS = """\
noted: compiles, and says what only its data tell, or which Python classes it runs
fail: doesn't compile, though every type and field is known
wait: has types, fields or values of a dialect that are unknown here
broken: no definition: a syntax error, a template, a value that no schema takes"""


@dataclass(frozen=True)
class Result:
    """What came of a net."""

    file: File
    outcome: str
    """One of OUTCOMES."""
    problems: Sequence[Problem] = ()
    dialects: frozenset[str] = frozenset()
    """Whose words it uses; empty for a broken one."""
    lacks: dict[str, str] = field(default_factory=dict)
    """What it has that nobody knows here, and whose that is."""


class Census:
    """Which dialect has a type or a field that is not Caffe's, by the corpus's census."""

    def __init__(self, path: Path) -> None:
        census = path.read_text(encoding="utf-8")
        fields = re.findall(r"(?m)^\| \d+ \| \d+ \| (field|enum) `(\S+)` \| ([^|]+) \|$", census)
        self.fields: dict[str, str] = {}
        """Of "PoolingParameter.ceil_mode" and the like."""
        self.values: dict[str, str] = {}
        """Of "engine=MKL2017" and the like."""
        for kind, what, dialect in fields:
            if kind == "field":
                self.fields[what] = dialect
            else:
                self.values[what.rpartition(".")[2]] = dialect
        self.types = dict(re.findall(r"(?m)^\| (\S+) \| \d+ / \d+ \| (.+) \|$", census))
        """Section 5: a type's parameters, with the forks that have them."""

    def of_field(self, what: str) -> str:
        """The dialect of a field, by its message and name; empty if it is in no table."""
        name = what.rpartition(".")[2]
        return self.fields.get(what) or self.fields.get(f"LayerParameter.{name}", "")

    def of_value(self, what: str) -> str:
        """The dialect of an enum's value; empty if it is in no table."""
        return self.values.get(what, "")

    def of_type(self, name: str) -> str:
        """The dialect of a layer type; empty if it is in no table."""
        told = self.types.get(name, "")
        param = re.match(r"`(\w+)`", told)
        forks = re.findall(r"\(([^()]+?)[/@# ]", told)
        forks += re.findall(r"([\w-]+)[#\d]*(?:,| |$)", told.partition("registered in: ")[2])
        return (
            TYPES.get(name)
            or (self.of_value(f"type={name.removeprefix('V1:')}") if ":" in name else "")
            or (self.of_field(f"LayerParameter.{param[1]}") if param else "")
            or next((FORKS[f] for f in forks if f in FORKS and FORKS[f] != PULLS), "")
            or (PULLS if "#" in told else "")
        )


class Judge:
    """Says what came of each net, and why."""

    def __init__(self) -> None:
        self.census = Census(CORPUS / "census.md")
        self.known = set(layer_types())
        self.stock = stock_types()

    @cached_property
    def stock_messages(self) -> descriptor_pool.DescriptorPool:
        """Caffe's own messages, without what plugins add."""
        pool = descriptor_pool.DescriptorPool()
        data = resources("torrefy.schema").joinpath("schema.binpb").read_bytes()
        for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
            pool.Add(file)
        return pool

    def result(self, file: File) -> Result:
        """What comes of a net."""
        try:
            found = attempt(file)
        except Exception as error:  # noqa: BLE001  # of us: the other nets still count
            found = Attempt([Problem(f"{CRASHED}: {type(error).__name__}: {error}")])
        if found.definition:
            words, foreign = {}, self.foreign_fields(found.definition.message)
        else:
            words, foreign = self.unknown_words(found.problems), {}
        types = {f"type {name}": self.census.of_type(name) for name in sorted(file.types)}
        # What the census has from nobody is of the fork in whose repository the net is.
        home = FORKS.get(file.name.partition("+")[0], UNKNOWN)
        whose = {
            what: home if dialect in ("", UNKNOWN) else dialect
            for what, dialect in {**words, **foreign, **types}.items()
        }
        lacks = {what: whose[what] for what in words}
        lacks |= {f"type {t}": whose[f"type {t}"] for t in sorted(file.types - self.known)}
        own = {f"type {name}" for name in self.stock}
        dialects = {dialect for what, dialect in whose.items() if what not in own} or {CAFFE}
        if found.definition is None and any(map(is_syntax, found.problems)):
            return Result(file, "broken", sorted(found.problems, key=is_syntax, reverse=True))
        if lacks:
            return Result(file, "wait", found.problems, frozenset(dialects), lacks)
        crashed = any(problem.message.startswith(CRASHED) for problem in found.problems)
        if found.definition is None and not file.stock_text and not crashed:
            return Result(file, "broken", found.problems)
        outcome = "fail" if found.problems else "noted" if found.missing else "compile"
        return Result(file, outcome, found.problems, frozenset(dialects))

    def unknown_words(self, problems: Iterable[Problem]) -> dict[str, str]:
        """The fields and the enums' values that a reader doesn't know, and who has them."""
        found = {}
        for problem in problems:
            if match := re.match(r'(\w+) has no field "(\w+)"', problem.message):
                what = f"{match[1]}.{match[2]}"
                found[f"field {what}"] = self.census.of_field(what)
            elif match := re.match(
                r'"(\w+)" takes one of .+; found ([A-Za-z]\w*)$', problem.message
            ):
                what = f"{match[1]}={match[2]}"
                found[f"value {what}"] = self.census.of_value(what)
        return found

    def foreign_fields(self, message: Any) -> dict[str, str]:
        """What a message has by the grace of plugins, and who has it too."""
        try:
            name = message.DESCRIPTOR.full_name
            stock: Descriptor = self.stock_messages.FindMessageTypeByName(name)
        except KeyError:
            return {}  # a plugin's own
        found = {}
        for one, value in message.ListFields():
            if one.name not in stock.fields_by_name:
                # A name that several plugins have is followed by whose it is.
                what = f"{stock.name}.{one.name.partition('__')[0]}"
                found[f"field {what}"] = self.census.of_field(what)
            elif one.message_type is not None:
                for inner in value if one.is_repeated else [value]:
                    found |= self.foreign_fields(inner)
        return found


def is_syntax(problem: Problem) -> bool:
    """Whether a reader stopped there."""
    return problem.message.startswith("expected ")


def reason(result: Result) -> str:
    """Why a net doesn't compile, in words that others share."""
    if result.lacks:
        return next(iter(result.lacks))
    message = result.problems[0].message
    message = re.sub(r'"[^"]*"', '"…"', message.partition("; found")[0])
    return re.sub(r"\d+(x\d+)*", "N", message)


def told(result: Result) -> str:
    """Why a net doesn't compile, on a line of its own."""
    if result.lacks:
        return f"{reason(result)} ({', '.join(sorted(set(result.lacks.values())))})"
    first = result.problems[0]
    line = f"line {first.place.line}: " if first.place and first.place.line else ""
    too = " (Caffe refuses it too)" if result.file.name in REFUSED else ""
    return f"{line}{replace(first, place=None)}{too}"


def counts(results: Sequence[Result]) -> list[str]:
    """A row's numbers: all, and of each outcome."""
    outcomes = Counter(result.outcome for result in results)
    return [str(len(results)), *(str(outcomes[name]) for name in OUTCOMES)]


def percent(part: int, whole: int) -> str:
    """A share for people."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def print_kinds(results: Sequence[Result], console: Console) -> None:
    """The table by kind."""
    table = Table("kind", "nets", *OUTCOMES, title="By kind", title_justify="left")
    for kind in sorted({result.file.kind for result in results}):
        table.add_row(kind, *counts([r for r in results if r.file.kind == kind]))
    table.add_section()
    table.add_row("all", *counts(results))
    console.print(table)
    console.print(MEANINGS)


def waiting(results: Sequence[Result], dialect: str) -> tuple[int, int]:
    """How many nets wait for a dialect, and how many of them for it alone."""
    whose = [set(result.lacks.values()) for result in results]
    return sum(dialect in one for one in whose), sum(one == {dialect} for one in whose)


def print_dialects(results: Sequence[Result], console: Console) -> None:
    """The table by dialect; a net with words of several counts in each."""
    table = Table(
        "dialect", "nets", *OUTCOMES[:-1], "wait for it", "share of all", "for it alone",
        title="By dialect: the nets that use it (a net may use several)",
        title_justify="left",
    )  # fmt: skip
    nets = Counter(dialect for result in results for dialect in result.dialects)
    for dialect, _ in nets.most_common():
        wait, alone = waiting(results, dialect)
        table.add_row(
            dialect,
            *counts([r for r in results if dialect in r.dialects])[:-1],
            str(wait),
            percent(wait, len(results)),
            str(alone),
        )
    console.print(table)


def print_reasons(results: Sequence[Result], console: Console, *, every: bool) -> None:
    """Why nets don't compile: each failure; of the others, the reasons, or `every` one."""
    for outcome in ("fail", "broken", "wait"):
        chosen = [r for r in results if r.outcome == outcome]
        if not chosen:
            continue
        if every or outcome == "fail":
            console.print(f"\n[bold]{outcome}[/]: {len(chosen)} nets, the first problem of each")
            for result in sorted(chosen, key=lambda r: r.file.name):
                console.print(
                    f"{result.file.name}\n    {told(result)}", markup=False, highlight=False,
                    soft_wrap=True,
                )  # fmt: skip
            continue
        table = Table(
            "nets", "first problem", title=f"{outcome}: {len(chosen)} nets", title_justify="left"
        )
        reasons = Counter(reason(result) for result in chosen).most_common()
        for words, count in reasons[:MOST_REASONS]:
            table.add_row(str(count), words)
        if len(reasons) > MOST_REASONS:
            rest = sum(count for _, count in reasons[MOST_REASONS:])
            table.add_row(str(rest), f"{len(reasons) - MOST_REASONS} others (--failures)")
        console.print(table)


def summary(results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """All numbers, for machines."""

    def of(chosen: Sequence[Result]) -> dict[str, int]:
        return dict(zip(("nets", *OUTCOMES), map(int, counts(chosen)), strict=True))

    def grouped(names: Iterable[str], test: Callable[[Result, str], bool]) -> dict[str, Any]:
        return {name: of([r for r in results if test(r, name)]) for name in names}

    ours = [r for r in results if r.outcome in ("compile", "noted", "fail")]
    misses = [r for r in ours if r.outcome == "fail"]
    share = len(misses) / len(ours) if ours else 0.0
    dialects = sorted({d for r in results for d in r.dialects})
    lacked = sorted({d for r in results for d in r.lacks.values()})
    return {
        "benchmark": "corpus",
        "all": of(results),
        "kinds": grouped(sorted({r.file.kind for r in results}), lambda r, k: r.file.kind == k),
        "dialects": grouped(dialects, lambda r, d: d in r.dialects),
        "waiting": {d: dict(zip(("nets", "alone"), waiting(results, d), strict=True))
                    for d in lacked},
        "known": len(ours),
        "misses": len(misses),
        "share": round(share, 4),
        "limit": LIMIT,
        "seconds": round(seconds, 1),
        "passed": share < LIMIT,
    }  # fmt: skip


def main() -> int:
    """Try every net, print tables and a JSON line, and give the exit code."""
    parser = argparse.ArgumentParser(description="How many of other people's nets compile.")
    parser.add_argument("--failures", action="store_true", help="tell of every net, not reasons")
    options = parser.parse_args()
    nets = files()
    if not nets:
        print(f"corpus: there is no {CORPUS}; nothing to try", file=sys.stderr)
        return 0
    text.MOST_PROBLEMS = sys.maxsize  # all that a net lacks, not the first 50 of it
    start = time.perf_counter()
    judge = Judge()
    results = [
        judge.result(file)
        for file in track(nets, "compiling", console=Console(stderr=True), transient=True)
    ]
    found = summary(results, time.perf_counter() - start)
    console = Console(width=None if sys.stdout.isatty() else 110)
    print_reasons(results, console, every=options.failures)
    print_kinds(results, console)
    print_dialects(results, console)
    waits = found["all"]["wait"]
    console.print(
        f"{found['misses']} of {found['known']} nets that need only what is known here fail: "
        f"{100 * found['share']:.2f} % (limit {100 * LIMIT:.0f} %); {waits} of {len(results)} "
        f"({percent(waits, len(results))}) wait for a dialect",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    print(json.dumps(found), flush=True)
    return int(not found["passed"])


if __name__ == "__main__":
    sys.exit(main())
