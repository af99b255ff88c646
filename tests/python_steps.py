"""Steps written in Python at random: source text with everything that a step may do besides.

A program is a few ingredients (a variable that it closes over, a counter, a generator, a list that
it appends to), each wrapped in a statement, and the calls that are made of it, between which things
outside are changed. It is data, so that Hypothesis can shrink it, and its text is a Python program
that can be read. Each world is one execution of that text, with objects and generators of its own.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import tinygrad_rnn as tg

I, H = 2, 3
NUMBERS = (0.5, 0.8, 1.25, 1.5)

HEAD = """
import array, collections, dataclasses, functools, itertools, math, random, types
import numpy as np
import tinygrad_rnn as tg

State = collections.namedtuple("State", ["h", "c"])

class Plain:
    training = True
"""


class Ingredient(NamedTuple):
    """Something that a step may do, as source text by section."""

    kinds: frozenset[str]
    sections: dict[str, list[str]]

    def lines(self, section: str, k: int, number: float) -> list[str]:
        """The lines of a section, for the k-th use."""
        found = self.sections.get(section, [])
        return [line.replace("$", str(k)).replace("~", str(number)) for line in found]


def _ingredients() -> dict[str, Ingredient]:
    found: dict[str, Ingredient] = {}
    sections: dict[str, list[str]] = {}
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if not line or line[0] == "#":
            continue
        if line[0] != " ":
            name, _, kinds = line.partition(": ")
            sections = {}
            found[name] = Ingredient(frozenset(kinds.split()), sections)
        else:
            sections.setdefault(line[4:11].strip(), []).append(line[11:])
    return found


INGREDIENTS = _ingredients()
"""By name; see python_steps.txt."""


def named(*kinds: str, without: str = "") -> list[str]:
    """The names of the ingredients of some kinds."""
    chosen = [name for name, one in INGREDIENTS.items() if one.kinds & set(kinds)]
    return [name for name in chosen if without not in INGREDIENTS[name].kinds]


WRAPS = ("none", "function", "for", "if", "try", "no_grad", "scan", "checkpoint")


class Use(NamedTuple):
    """An ingredient, a number for it, and the statement about it."""

    name: str
    number: float = NUMBERS[0]
    wrap: str = "none"

    def body(self, k: int) -> tuple[list[str], list[str]]:
        """What is declared at the head of the step, and the lines in it."""
        one = INGREDIENTS[self.name]
        scope, lines = (one.lines(section, k, self.number) for section in ("scope", "step"))
        inner = [*scope, *lines]
        note = f"# {self.name}"
        match self.wrap:
            case "none":
                return scope, [note, *lines]
            case "for":
                return scope, [note, "for _ in range(2):", *indented(lines)]
            case "if":
                return scope, [note, "if self.training:", *indented(lines)]
            case "try":
                end = ["except ArithmeticError:", "    v = v * 0"]
                return scope, [note, "try:", *indented(lines), *end]
            case "no_grad":
                about = [f"before_{k} = v", "with tg.no_grad():", *indented(lines)]
                return scope, [note, *about, f"v = v + 0.5 * before_{k}"]
            case "scan":
                head = [note, f"def block_{k}(z, v):", *indented([*inner, "return v, z + v"])]
                xs = "tg.stack([v, 0.5 * v])"
                return [], [*head, f"v = tg.scan(block_{k}, {xs}, v, unroll=UNROLL)[1]"]
            case _:
                head = [note, f"def block_{k}(v):", *indented([*inner, "return v"])]
                again = self.wrap == "checkpoint" and not one.kinds & {"effect", "read"}
                call = f"tg.checkpoint(block_{k})" if again else f"block_{k}"
                return [], [*head, f"v = {call}(v)"]


class Call(NamedTuple):
    """One call of a program.

    ``changes`` has one bit per ingredient: which of their changes are made before; ``wants`` has
    one each for the inputs and the state: which want a gradient. ``seed`` is for ``manual_seed``.
    """

    T: int = 2
    B: int = 1
    changes: int = 0
    seed: int | None = 0
    recording: bool = True
    wants: int = 3
    stream: bool = False


STATES = {
    "tensor": ("h = state", "v", "zeros"),
    "tuple": (
        "h, n = state; h = h / (n + 1)[:, None]",
        "(v, n + 1)",
        "(zeros, tg.arange(batch_size))",
    ),
    "named": ("h = state.h * state.c", "State(h=v, c=tg.cos(v))", "State(zeros, zeros)"),
    "dict": ("h = state['a']", "{'a': state['b'] + v, 'b': v * 0.5}", "{'a': zeros, 'b': zeros}"),
}
"""How the state is taken apart, and put together again, and a cell's initial one."""

OUTPUTS = {
    "value": "v",
    "tuple": "(v, tg.sum(v, -1))",
    "dict": "{'v': v, 'before': h}",
    "constant": "(self.b, v)",
}

ENTRIES = {
    "method": "self.step",
    "function": "step",
    "lambda": "lambda x, state: self.step(x, state)",
    "partial": "functools.partial(Model.step, self)",
    "object": "self",
}
"""What is handed to the loop."""


@dataclass(frozen=True)
class Program:
    """A step as ingredients, and the calls that are made of it.

    ``cell`` says whether it is a cell: ``""``, ``"cell"`` or ``"pure"``.
    """

    uses: tuple[Use, ...]
    calls: tuple[Call, ...] = (Call(), Call())
    entry: str = "method"
    state: str = "tensor"
    output: str = "value"
    reverse: bool = False
    cell: str = ""

    def lines(self, section: str) -> list[str]:
        """A section of all ingredients."""
        every = enumerate(self.uses)
        return [line for k, u in every for line in INGREDIENTS[u.name].lines(section, k, u.number)]

    def body(self) -> list[str]:
        """The lines of the step."""
        parts = [use.body(k) for k, use in enumerate(self.uses)]
        apart, together, _ = STATES[self.state]
        return [
            *(line for scope, _ in parts for line in scope),
            apart,
            "v = tg.tanh(x @ self.w + h @ self.u)",
            *(line for _, lines in parts for line in lines),
            "v = tg.tanh(v)",
            f"return {OUTPUTS[self.output]}, {together}",
        ]

    def source(self) -> str:
        """The program in Python."""
        first = ["self.w, self.u, self.b = parameter(2, 3), parameter(3, 3), parameter(3)"]
        own = ["pure = True"] if self.cell == "pure" else []
        if self.cell:
            first.append("self.input_size, self.hidden_size = 2, 3")
            own += [
                "def initial_state(self, batch_size):",
                "    zeros = tg.zeros((batch_size, 3), dtype='float64')",
                f"    return {STATES[self.state][2]}",
            ]
        step = ["def step(self, x, state):", *indented(self.body())]
        if self.entry == "object":
            step.append("__call__ = step")
        made = [
            *self.lines("around"),
            f"class Model({'tg.rnn.Cell' if self.cell else 'Plain'}):",
            *indented([*own, *self.lines("class"), "def __init__(self):"]),
            *indented(indented([*first, *self.lines("init")])),
            *indented([] if self.entry == "function" else step),
            "self = Model()",
        ]
        if self.entry == "function":
            made += ["def step(x, state):", *indented(self.body())]
        for k, use in enumerate(self.uses):
            one = INGREDIENTS[use.name]
            made.append(f"def change_{k}():")
            sections = (one.lines(section, k, use.number) for section in ("scope", "change"))
            made += indented([*(line for lines in sections for line in lines), "return None"])
        left = [f"{text!r}: {text}," for text in self.lines("left")]
        made += ["def left():", *indented(["return {", *left, "}"])]
        changes = "".join(f"change_{k}, " for k in range(len(self.uses)))
        made.append(f"return self, {ENTRIES[self.entry]}, ({changes}), left")
        return "\n".join(
            [*HEAD.strip().splitlines(), *self.lines("module"), "def make():", *indented(made)]
        )

    def __str__(self) -> str:
        calls = "\n".join(map(str, self.calls))
        return f"{self.source()}\n\nreverse={self.reverse}\n{calls}"


def indented(lines: Iterable[str]) -> list[str]:
    return [textwrap.indent(line, "    ") for line in lines]


class World:
    """One execution of a program: a step, what it reaches, and all of its parameters.

    Attributes
    ----------
    model, step : the object that the step belongs to, and what is handed to the loop.
    changes : functions that change something outside, one per ingredient.
    left : a function that gives what is there by its expression.
    parameters : every parameter that was made, in order; the first may be those of another world.
    """

    model: Any
    step: Callable[[Any, Any], Any]
    changes: tuple[Callable[[], None], ...]
    left: Callable[[], dict[str, Any]]

    def __init__(self, program: Program, unroll: bool, given: Sequence[tg.Tensor] = ()) -> None:
        self.program = program
        self.given = given
        self.parameters: list[tg.Tensor] = []
        names: dict[str, Any] = {
            "__name__": "a_drawn_program",
            "UNROLL": unroll,
            "parameter": self.parameter,
        }
        code = compile(program.source(), "<a drawn program>", "exec", dont_inherit=True)
        exec(code, names)
        self._names = names
        self.model, self.step, self.changes, self.left = names["make"]()

    def parameter(self, *shape: int) -> tg.Tensor:
        """A parameter like the one that another world makes as its k-th, or that one itself."""
        k = len(self.parameters)
        values = np.random.default_rng([5, k]).uniform(-1, 1, shape)
        kind = tg.nn.Parameter if self.program.cell else tg.Tensor
        made = self.given[k] if k < len(self.given) else kind(values, True)
        self.parameters.append(made)
        return made

    def change(self, bits: int) -> None:
        """Change something outside, for every bit that is set."""
        for k, change in enumerate(self.changes):
            if bits >> k & 1:
                change()

    def inputs(self, k: int, call: Call) -> tuple[tg.Tensor, Any]:
        """Inputs over time and a first state, for the k-th call."""
        rng = np.random.default_rng([7, k])
        shapes = (call.T, call.B, I), (call.B, H), (call.B, H)
        x, first, second = (tg.tensor(rng.uniform(-1, 1, shape)) for shape in shapes)
        for value, bit in (x, 1), (first, 2), (second, 2):
            value.requires_grad = bool(call.wants & bit)
        match self.program.state:
            case "tensor":
                return x, first
            case "tuple":
                return x, (first, tg.arange(call.B))
            case "named":
                return x, self._names["State"](first, second)
            case _:
                return x, {"a": first, "b": second}


@st.composite
def programs(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = (),
    without: str = "",
    most: int = 4,
    cell: str = "",
    reads: bool = True,
) -> Program:
    """A program with ingredients of some kinds, by default of all of them."""
    ways = ("pure", "plain"), ("draw",), ("effect",)
    wanted = [named(*way, without=without) for way in ways if not kinds or {*way} & {*kinds}]
    if cell == "pure":
        wanted = [named("plain"), named("draw")]
    parts = [st.sampled_from(names) for names in wanted if names]
    number, wrap = st.sampled_from(NUMBERS), st.sampled_from(WRAPS)
    use = st.builds(Use, st.one_of(parts), number, wrap)
    uses = draw(st.lists(use, min_size=1, max_size=most))
    if reads and draw(st.integers(0, 15)) == 15:
        uses.append(draw(st.builds(Use, st.sampled_from(named("read")), number, wrap)))
    call = st.builds(
        Call,
        T=st.sampled_from([2, 3, 1, 5]),
        B=st.integers(1, 3),
        changes=st.integers(0, 2 ** len(uses) - 1),
        seed=st.none() | st.integers(0, 3),
        recording=st.sampled_from([True, True, True, False]),
        wants=st.integers(0, 3),
        stream=st.booleans() if cell else st.just(False),
    )
    return Program(
        tuple(uses),
        tuple(draw(st.lists(call, min_size=3, max_size=3))),
        "method" if cell else draw(st.sampled_from([*ENTRIES])),
        draw(st.sampled_from([*STATES])),
        draw(st.sampled_from([*OUTPUTS])) if not cell else "value",
        draw(st.booleans()),
        cell,
    )
