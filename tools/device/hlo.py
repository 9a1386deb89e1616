"""Compiled HLO, given as text: its computations, what calls what, and how often each one runs.

The text is that of `jax.stages.Compiled.as_text()`. CPU, TPU and GPU write the same grammar. They
differ in how a loop tells its length: the CPU and the GPU note `known_trip_count`, the TPU leaves
it to be read from the loop's condition.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterator

SIZES = {"pred": 1, "s4": 1, "u4": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2}
SIZES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16}
SIZES |= {"f8e4m3fn": 1, "f8e5m2": 1, "f8e4m3": 1, "f8e4m3b11fnuz": 1}

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_NAME = re.compile(r"%?([A-Za-z_][\w.\-]*)")
_CALLED = re.compile(r"\b(body|condition|to_apply|calls)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRUE_FALSE = re.compile(r"(?:true|false)_computation=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_DIRECTION = re.compile(r"direction=(LT|LE|GT|GE|NE)")
_INDEX = re.compile(r"\bindex=(\d+)")
_CONSTANT = re.compile(r"^(-?\d+)\)")
# What hands its one operand on unchanged, where only the value of a counter matters.
_SAME = {"copy", "bitcast", "convert", "reshape", "copy-start", "copy-done"}


def byte_size(shapes: str) -> int:
    """Bytes of all array shapes in a text such as "(f32[8,4]{1,0}, s32[])"."""
    return sum(
        SIZES.get(dtype, 0) * math.prod(int(n) for n in dims.split(",") if n)
        for dtype, dims in _SHAPE.findall(shapes)
    )


def shape_text(shapes: str) -> str:
    """The same text without layouts: "f32[8,4], s32[]"."""
    return ", ".join(f"{dtype}[{dims}]" for dtype, dims in _SHAPE.findall(shapes))


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    name; opcode, as "fusion"; result: its shape as text; rest: what follows the opening bracket,
    operands and attributes; root: whether it is what the computation returns.
    """

    name: str
    opcode: str
    result: str
    rest: str
    root: bool

    @functools.cached_property
    def operands(self) -> list[str]:
        """Names of the operands."""
        # Some compilers write the operands' shapes too, in which there are brackets.
        depth, end = 1, 0
        for end, letter in enumerate(self.rest):  # noqa: B007
            depth += (letter == "(") - (letter == ")")
            if not depth:
                break
        inside = re.sub(r"/\*.*?\*/|\{[^}]*\}", "", self.rest[:end])
        marked = re.findall(r"%([\w.\-]+)", inside)
        if marked or "[" in inside:
            return marked
        return [match[1] for match in map(_NAME.fullmatch, inside.split(", ")) if match]

    @functools.cached_property
    def op_name(self) -> str:
        """The path of JAX's primitive that it was made for, or ""."""
        found = _OP_NAME.search(self.rest)
        return found[1] if found else ""

    def called(self, *attributes: str) -> list[str]:
        """Computations that these attributes ("body", "calls" ...) name."""
        return [name for key, name in _CALLED.findall(self.rest) if key in attributes]

    def branches(self) -> list[str]:
        """Computations that a conditional chooses among."""
        names = _TRUE_FALSE.findall(self.rest)
        for listed in _BRANCHES.findall(self.rest):
            names += re.findall(r"[\w.\-]+", listed)
        return names


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program: its computations by name, and the name of the one it starts with."""

    entry: str
    computations: dict[str, Computation]

    def fused(self, instruction: Instruction) -> Iterator[Instruction]:
        """What a fusion holds, fusions inside it opened too; nothing for another instruction."""
        if instruction.opcode != "fusion":
            return
        for name in instruction.called("calls"):
            for inner in self.computations.get(name, {}).values():
                yield inner
                yield from self.fused(inner)


def parse(text: str) -> Module:
    """Reads a module.

    Raises:
      ValueError: the text has no entry computation, so it is not a compiled program.
    """
    computations: dict[str, Computation] = {}
    entry: str | None = None
    current: Computation = {}  # what stands before the first computation is none
    for line in text.splitlines():
        start = _COMPUTATION.match(line)
        if start:
            current = computations.setdefault(start[2], {})
            entry = start[2] if start[1] else entry
            continue
        found = _INSTRUCTION.match(line)
        if found:
            root, name, result, opcode, rest = found.groups()
            current[name] = Instruction(name, opcode, result, rest, bool(root))
    if entry is None:
        raise ValueError("no ENTRY computation: expected the text of a compiled HLO module")
    return Module(entry, computations)


def _number(computation: Computation, name: str) -> int | None:
    """The value of an instruction that is a constant, through copies of it."""
    while name in computation:
        instruction = computation[name]
        if instruction.opcode == "constant":
            found = _CONSTANT.match(instruction.rest)
            return int(found[1]) if found else None
        if instruction.opcode not in _SAME:
            return None
        name = instruction.operands[0]
    return None


def _carried(computation: Computation, name: str) -> int | None:
    """Which of the loop's values an instruction of its condition or body is, through copies."""
    while name in computation:
        instruction = computation[name]
        if instruction.opcode == "get-tuple-element":
            source = computation.get(instruction.operands[0])
            index = _INDEX.search(instruction.rest)
            return int(index[1]) if index and source and source.opcode == "parameter" else None
        if instruction.opcode not in _SAME:
            return None
        name = instruction.operands[0]
    return None


def _step(body: Computation, index: int) -> int | None:
    """What a loop's body adds to its value number `index`, or None if that is no constant."""
    root = next((i for i in body.values() if i.root), None)
    if root is None or root.opcode != "tuple" or index >= len(root.operands):
        return None
    name = root.operands[index]
    if _carried(body, name) == index:
        return 0
    while name in body and body[name].opcode in _SAME:
        name = body[name].operands[0]
    found = body.get(name)
    if found is None or found.opcode not in ("add", "subtract") or len(found.operands) != 2:
        return None
    sign = 1 if found.opcode == "add" else -1
    for one, other in (found.operands, found.operands[::-1]):
        number = _number(body, other)
        if number is not None and _carried(body, one) == index:
            return sign * number
    return None


def trip_count(module: Module, caller: Computation, loop: Instruction) -> int | None:
    """How often a while loop runs, or None where the text does not say.

    Args:
      module: that holds the loop's condition and body.
      caller: the computation that the loop stands in.
      loop: an instruction with opcode "while".
    """
    noted = _TRIPS.search(loop.rest)
    if noted:
        return int(noted[1])
    [condition], [body] = loop.called("condition"), loop.called("body")
    test = next((i for i in module.computations[condition].values() if i.root), None)
    direction = _DIRECTION.search(test.rest) if test and test.opcode == "compare" else None
    if test is None or direction is None:
        return None
    index = _carried(module.computations[condition], test.operands[0])
    bound = _number(module.computations[condition], test.operands[1])
    start = caller.get(loop.operands[0])
    if index is None or start is None or start.opcode != "tuple":
        return None
    if bound is None:  # the bound may be one of the values carried through the loop unchanged
        place = _carried(module.computations[condition], test.operands[1])
        if place is not None and _step(module.computations[body], place) == 0:
            bound = _number(caller, start.operands[place])
    first = _number(caller, start.operands[index])
    step = _step(module.computations[body], index)
    if bound is None or first is None or not step:
        return None
    length = bound - first + {"LE": 1, "GE": -1}.get(direction[1], 0)
    return max(0, math.ceil(length / step))


@dataclasses.dataclass(frozen=True)
class Runs:
    """How often each computation that is executed runs, and the loops of unknown length."""

    times: collections.Counter
    unknown: list[str]


def _calls(module: Module, computation: Computation) -> Iterator[tuple[str, int, str]]:
    """(computation, times, name of a loop of unknown length or "") that a computation executes."""
    for instruction in computation.values():
        if instruction.opcode == "while":
            trips = trip_count(module, computation, instruction)
            for name in instruction.called("body", "condition"):
                yield name, 1 if trips is None else trips, instruction.name * (trips is None)
        elif instruction.opcode == "conditional":
            yield from ((name, 1, "") for name in instruction.branches())
        elif instruction.opcode in ("call", "async-start"):
            yield from ((name, 1, "") for name in instruction.called("to_apply", "calls"))


def runs(module: Module) -> Runs:
    """Counts how often each computation is executed when the program runs once.

    Loops count by their length; one whose length the text does not say counts once and is named.
    Every branch of a condition counts as taken. What a fusion calls is part of the fusion.
    """
    calls = {}
    times, unknown = collections.Counter(), []

    def count(name: str, factor: int) -> None:
        times[name] += factor
        if name not in calls:
            calls[name] = list(_calls(module, module.computations.get(name, {})))
            unknown.extend(dict.fromkeys(loop for _, _, loop in calls[name] if loop))
        for called, repeated, _ in calls[name]:
            count(called, factor * repeated)

    count(module.entry, 1)
    return Runs(times, unknown)
