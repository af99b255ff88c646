"""A cell of your own, as fast as a built-in one.

A recurrent cell is written here as in a paper: a few equations for one time step. This program
writes one that neither PyTorch nor Keras has, shows what is made of it, checks it, trains it on a
question of long memory, and measures its speed.

    python examples/custom_cell.py                    about a minute
    python examples/custom_cell.py --quick            the same, small, in a few seconds
    python examples/custom_cell.py --device cuda

The file reads from top to bottom: the cell, its program, the proof, the question, the speed, and
`main`, which is the story. Letters: T time steps, B sequences in a batch, I inputs, H hidden units.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, rnn

# The cell. What a step returns is (y, state); here both are h.


class AntisymmetricCell(rnn.Cell):
    """A gated antisymmetric network: one small step of a differential equation that forgets little.

        A = W - W^T - friction I
        z = sigmoid(A h + V_z x + b_z)
        h = h + size * z * tanh(A h + V_h x + b_h)

    W - W^T turns h and leaves its length as it is, so what h holds neither dies out nor explodes.
    Source: Chang, Chen, Haber, Chi 2019, AntisymmetricRNN (arXiv 1902.09689), whose epsilon is our
    size and whose gamma is our friction.
    """

    pure = True  # the step depends on its arguments, parameters and plain attributes alone

    def __init__(
        self, input_size: int, hidden_size: int, size: float = 0.1, friction: float = 0.01
    ) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.size, self.friction = size, friction
        self.weight = nn.Parameter(tg.randn(hidden_size, hidden_size) / math.sqrt(hidden_size))
        self.inputs = nn.Linear(input_size, 2 * hidden_size)  # the rows of V_z, then those of V_h

    def step(self, x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        turned = tg.linear(h, self.weight - self.weight.T) - self.friction * h
        gate, new = tg.split(self.inputs(x), parts=2, axis=1)
        h = h + self.size * tg.sigmoid(turned + gate) * tg.tanh(turned + new)
        return h, h


# The proof: what is compiled from the cell computes what its equations say.


def outputs_and_gradients(layer: rnn.Recurrent, x: tg.Tensor) -> list[np.ndarray]:
    """The outputs over time, and the gradients of the inputs and of every parameter."""
    wanted = [x, *layer.parameters()]
    for value in wanted:
        value.grad = None
    output, _ = layer(x)
    tg.sum(tg.sin(output)).backward()
    return [output.numpy(), *(value.grad.numpy() for value in wanted)]


def largest_difference(one: rnn.Recurrent, other: rnn.Recurrent, x: tg.Tensor) -> float:
    """How far two layers differ at most; relative where values are larger than 1."""
    pairs = zip(outputs_and_gradients(one, x), outputs_and_gradients(other, x), strict=True)
    return max(float(np.max(np.abs(a - b) / np.maximum(1, np.abs(b)))) for a, b in pairs)


# The question: which of four signals came first? After the first step there is nothing but noise,
# so the answer has to be remembered for T - 1 steps.


def first_signal(
    random: np.random.Generator, T: int, B: int, device: str
) -> tuple[tg.Tensor, np.ndarray]:
    """Sequences (T, B, 5), whose last column marks the first step, and the answers (B,)."""
    answers = random.integers(0, 4, B)
    x = random.standard_normal((T, B, 5), np.float32)
    x[0] = np.eye(5, dtype=np.float32)[answers]
    x[:, :, 4] = 0
    x[0, :, 4] = 1
    return tg.tensor(x, device=device), answers


def train(layer: nn.Module, size: Size, options: argparse.Namespace) -> list[float]:
    """Train a layer; the share of right answers in each tenth of the updates.

    Every sequence is a new one, so this is measured on what the layer has not seen before.
    """
    random = np.random.default_rng(options.seed)
    head = nn.Linear(size.hidden, 4).to(options.device)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = optim.Adam(parameters, lr=size.lr, clip=optim.ClipNorm(1.0))
    right: list[float] = []
    for _ in range(size.updates):
        x, answers = first_signal(random, size.steps, size.batch, options.device)
        output, _ = layer(x)
        scores = head(output[-1])
        optimizer.zero_grad()
        nn.cross_entropy(scores, answers).backward()
        optimizer.step()
        right.append(float(np.mean(scores.numpy().argmax(axis=1) == answers)))
    return [float(np.mean(part)) for part in np.array_split(right, 10)]


# The speed: milliseconds of a training step, which is the outputs for all T, a loss, and the
# gradients of the inputs and of all parameters.


def step_of(layer: nn.Module, x: tg.Tensor) -> Callable[[], float]:
    """A training step of a layer of this package."""

    def step() -> float:
        layer.zero_grad()
        x.grad = None
        loss = tg.mean(tg.square(layer(x)[0]))
        loss.backward()
        return loss.item()

    return step


def step_of_torch(size: Size, device: str) -> Callable[[], float]:
    """The same of PyTorch's LSTM."""
    import torch

    place = torch.device(device)
    layer = torch.nn.LSTM(size.wide, size.wide, device=place)
    x = torch.randn(size.steps, size.batch, size.wide, device=place, requires_grad=True)

    def step() -> float:
        layer.zero_grad()
        x.grad = None
        loss = layer(x)[0].square().mean()
        loss.backward()
        return loss.item()

    return step


def milliseconds(step: Callable[[], float], seconds: float) -> float:
    """The median time of a call, of as many as fit into ``seconds``; the first one compiles."""
    step()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def speeds(size: Size, device: str) -> Iterator[tuple[str, float]]:
    """Who was measured, and the milliseconds of a step."""
    cell = AntisymmetricCell(size.wide, size.wide).to(device)
    replayed, unrolled = rnn.Recurrent(cell), rnn.Recurrent(cell, unroll=True)
    lstm = rnn.LSTM(size.wide, size.wide).to(device)
    x = tg.randn(size.steps, size.batch, size.wide).to(device)
    x.requires_grad = True
    yield "the cell, unrolled", milliseconds(step_of(unrolled, x), size.seconds)
    with tg.replay.using(jit=False, packed=False):
        yield "the cell, no extras", milliseconds(step_of(replayed, x), size.seconds)
    yield "the cell", milliseconds(step_of(replayed, x), size.seconds)
    yield "rnn.LSTM", milliseconds(step_of(lstm, x), size.seconds)
    if importlib.util.find_spec("torch") is not None:
        yield "PyTorch's LSTM", milliseconds(step_of_torch(size, device), size.seconds)


# The story.


class Size(NamedTuple):
    """How much is done: T, B and H of the question, and the width H = I where speed is measured."""

    steps: int
    batch: int
    hidden: int
    updates: int
    lr: float
    wide: int
    seconds: float


FULL = Size(steps=100, batch=32, hidden=64, updates=400, lr=0.01, wide=256, seconds=2)
QUICK = Size(steps=20, batch=32, hidden=32, updates=100, lr=0.02, wide=32, seconds=0.1)


def tell(options: argparse.Namespace) -> None:
    """Show the program, prove it, train, measure."""
    size, device = QUICK if options.quick else FULL, options.device
    tg.manual_seed(options.seed)

    layer = rnn.Recurrent(AntisymmetricCell(5, size.hidden)).to(device)
    program, _, compiled = layer.explain(size.batch).partition("\n\n")
    print(f"One step of the cell is a program (k: parameters, x: inputs, s: state):\n\n{program}\n")
    print("The replay takes it apart. W - W^T is computed once, products with x are made for all T")
    print(f"before the loop, and gradients of parameters for all T after it:\n\n{compiled}\n")

    cell = AntisymmetricCell(5, 7).to("float64").to(device)
    replayed, unrolled = rnn.Recurrent(cell), rnn.Recurrent(cell, unroll=True)
    x = tg.randn(9, 3, 5, dtype="float64").to(device)
    x.requires_grad = True
    difference = largest_difference(replayed, unrolled, x)
    print(f"Outputs and gradients of the loop and of the equations differ by {difference:.0e}.")
    agree = tg.check_gradients(lambda x: replayed(x)[0], x)
    print(f"First and second derivatives by x agree with central differences: {agree}.\n")

    print(f"Which of four signals came first, {size.steps} steps ago? Right answers in each tenth")
    print(f"of {size.updates} updates; to guess is 0.25:\n")
    for name, one in (("the cell", layer), ("rnn.LSTM", rnn.LSTM(5, size.hidden).to(device))):
        print(f"  {name:10}", *(f"{share:5.2f}" for share in train(one, size, options)))

    print(f"\nA training step with T = {size.steps}, B = {size.batch}, I = H = {size.wide}:\n")
    print(f"  {'':22}{'ms':>8}{'us per time step':>20}")
    for name, found in speeds(size, device):
        print(f"  {name:22}{found:8.2f}{1e3 * found / size.steps:20.1f}")
    print("\nThe LSTM has four times the recurrent weights. One run on a busy machine says little;")
    print("benchmarks/replay.py compares with care.")


def main() -> None:
    """Read the options; what is wrong with them is said in one sentence."""
    parser = argparse.ArgumentParser(description="A recurrent cell of your own at full speed.")
    parser.add_argument("--quick", action="store_true", help="everything small, in a few seconds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument("--seed", type=int, default=1, help="decides weights and sequences")
    try:
        tell(parser.parse_args())
    except KeyboardInterrupt:
        sys.exit("custom_cell: aborted")
    except (ValueError, tg.DeviceError) as error:
        sys.exit(f"custom_cell: {error}")


if __name__ == "__main__":
    main()
