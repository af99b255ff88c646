"""The cliff: why gradients explode on the way down, and what clipping does about it.

A recurrent network of one unit has two numbers to learn, w and b, so its whole error can be drawn:
how far the unit is from 0.7 after 50 steps of h = sigmoid(w h + b). Across the map goes a wall,
where h falls to one resting point or to another; the valley leads down to the foot of it. Where
descent touches the wall, the gradient throws it off the map. With the norm of the gradient clipped,
it takes a step like any other there, and arrives. Source: Pascanu, Mikolov, Bengio 2013, On the
Difficulty of Training Recurrent Neural Networks, figure 6. Beside it, an LSTM of one unit.

    python examples/cliff.py                    figures, and runs/cliff/cliff.png
    python examples/cliff.py --quick            a coarse map, in a few seconds

Measured (seed 1; about 8 seconds of one core): of 200 descents on Elman's map 54 jumped, the
longest jump went 131 away, and 25 ended off the map; with clipping none did, and 168 instead of 154
arrived at an error below 0.001. The wall is as steep as one cares to look: a gradient of 20 on a
grid of 201 x 201 points, of a million on the line itself. The LSTM's map has its wall too, though
no descent from a random point jumped there, and is not less flat but more: 22.8 % of it against
5.4 % has a gradient below 0.001. Where its gates are closed, h is 0 and stays so, and only 12 of
the 200 descents arrived.

The file reads from top to bottom: two networks of one unit, their maps, descent, the picture, and
`main`, which is the story.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn

STEPS, TARGET, FIRST = 50, 0.7, 1 / (1 + math.exp(-0.5))  # h_0 = sigmoid(0.5), as in the source
W, B = (0.0, 8.0), (-5.0, 1.0)  # the map: from where to where
FLAT = 1e-3  # ground is flat where the error falls by less than this per unit of length
JUMP = 1.0  # an update that goes further than this is a jump

# Two networks of one unit. Each row of the batch is a network of its own, with its own w and b, so
# the whole map is one run, and its gradient one backward pass.


class ElmanUnits(rnn.Cell):
    """h = sigmoid(w h + b), with w and b (P, 1) for P networks."""

    pure = True

    def __init__(self, w: Any, b: Any, device: str) -> None:
        self.input_size, self.hidden_size = 1, 1
        self.w = nn.Parameter(tg.tensor(np.reshape(w, (-1, 1)), "float64", device))
        self.b = nn.Parameter(tg.tensor(np.reshape(b, (-1, 1)), "float64", device))

    def initial_state(self, batch_size: int) -> Any:
        return self.zeros(batch_size, 1) + FIRST

    def step(self, x: tg.Tensor, state: Any) -> tuple[tg.Tensor, Any]:
        h = tg.sigmoid(self.w * state + self.b)
        return h, h


class LSTMUnits(ElmanUnits):
    """An LSTM of one unit that has w and b in all of its gates, and 1 more in the forget gate."""

    pure = True

    def initial_state(self, batch_size: int) -> rnn.LSTMState:
        zeros = self.zeros(batch_size, 1)
        return rnn.LSTMState(zeros + FIRST, zeros)

    def step(self, x: tg.Tensor, state: rnn.LSTMState) -> tuple[tg.Tensor, rnn.LSTMState]:
        a = self.w * state.h + self.b
        i, f, g, o = tg.sigmoid(a), tg.sigmoid(a + 1), tg.tanh(a), tg.sigmoid(a)
        c = f * state.c + i * g
        h = o * tg.tanh(c)
        return h, rnn.LSTMState(h, c)


NETWORKS = {"Elman": ElmanUnits, "LSTM": LSTMUnits}


def errors(network: str, w: Any, b: Any, device: str) -> tuple[np.ndarray, np.ndarray]:
    """(h_50 - 0.7)^2 of P networks, (P,), and its gradients by w and b, (P, 2)."""
    units = NETWORKS[network](w, b, device)
    output, _ = rnn.Recurrent(units)(tg.zeros((STEPS, np.size(w), 1), "float64", device))
    error = tg.square(output[-1] - TARGET)
    tg.sum(error).backward()
    gradients = np.concatenate([units.w.grad.numpy(), units.b.grad.numpy()], axis=1)
    return error.numpy()[:, 0], gradients


class Map(NamedTuple):
    """Errors (n, n) over w and b, and the lengths of their gradients."""

    w: np.ndarray
    b: np.ndarray
    error: np.ndarray
    slope: np.ndarray


def survey(network: str, points: int, device: str) -> Map:
    """The error at every point of a grid."""
    w, b = np.meshgrid(np.linspace(*W, points), np.linspace(*B, points))
    error, gradients = errors(network, w, b, device)
    slope = np.hypot(*gradients.T)
    return Map(w, b, error.reshape(w.shape), slope.reshape(w.shape))


# Descent: from many points at once, each network going down by its own gradient. What
# optim.SGD(..., clip=optim.ClipNorm(limit)) does to one network is done to each.


def descend(
    network: str, starts: np.ndarray, lr: float, limit: float, updates: int, device: str
) -> np.ndarray:
    """The ways down from P starts (P, 2) of (w, b): (updates + 1, P, 2)."""
    path = [starts]
    for _ in range(updates):
        _, g = errors(network, *path[-1].T, device)
        length = np.hypot(*g.T)[:, None]
        path.append(path[-1] - lr * g * np.minimum(1, limit / (length + 1e-6)))
    return np.array(path)


class Ways(NamedTuple):
    """What became of the ways down, one entry for each start."""

    jumped: np.ndarray  # whether one update went further than JUMP
    longest: np.ndarray  # the longest update
    left: np.ndarray  # whether it ended off the map
    settled: np.ndarray  # whether it stayed within JUMP over the last 50 updates
    error: np.ndarray  # at the end


def judge(network: str, path: np.ndarray, device: str) -> Ways:
    """What became of them."""
    longest = np.hypot(*np.moveaxis(np.diff(path, axis=0), -1, 0)).max(axis=0)
    w, b = path[-1].T
    inside = (W[0] <= w) & (w <= W[1]) & (B[0] <= b) & (b <= B[1])
    settled = np.ptp(path[-50:], axis=0).max(axis=1) < JUMP
    return Ways(longest > JUMP, longest, ~inside, settled, errors(network, w, b, device)[0])


# The picture: the same map by one call, with two ways down. Its networks are run one by one.


def mapped(network: str, points: int, ways: dict[str, np.ndarray], device: str) -> lab.Surface:
    """The error over w and b, with ways down (updates + 1, 2)."""
    unit = NETWORKS[network](0.0, 0.0, device)
    layer, x = rnn.Recurrent(unit), tg.zeros((STEPS, 1, 1), "float64", device)

    def error() -> tg.Tensor:
        return tg.square(layer(x)[0][-1] - TARGET)

    return lab.surface(
        error, unit, [{"w": 1}, {"b": 1}], span=(W, B), points=points, paths=ways, names=("w", "b")
    )


def picture(
    maps: dict[str, Map], surfaces: dict[str, lab.Surface], longest: dict[str, float]
) -> lab.Picture:
    """Each map from the side and from above, on one scale of colours."""
    limits = 0.0, float(max(np.nanmax(found.loss) for found in surfaces.values()))
    panels: list[lab.Panel] = []
    for network, found in maps.items():
        flat = 100 * np.mean(found.slope < FLAT)
        side, above = surfaces[network].picture(relief=True, limits=limits).panels

        def draw(axes: Any, found: Map = found, above: lab.Panel = above) -> None:
            above.draw(axes)
            dots = axes.contourf(
                found.w, found.b, found.slope, [-1, FLAT], colors="none", hatches=[".."]
            )
            dots.set_edgecolor("white")

        said = (
            f"{network}: error after {STEPS} steps, with a wall of slope {found.slope.max():,.0f}"
        )
        way = f"longest update {longest[network]:.3g}; {flat:.0f} % is flat (dotted)"
        panels += [
            replace(side, name=f"{network.lower()}-side", title=said),
            replace(above, name=f"{network.lower()}-above", title=f"{network}: {way}", draw=draw),
        ]
    return lab.Picture(panels)


# The story.


def tell(options: argparse.Namespace) -> None:
    """Survey, descend, print, draw."""
    device, quick = options.device, options.quick
    points, count, updates = (41, 20, 60) if quick else (201, 200, 300)
    print(
        f"(h_{STEPS} - {TARGET})^2 over w from {W[0]:g} to {W[1]:g} and b from {B[0]:g} to {B[1]:g}"
    )
    print(f"at {points} x {points} points. Ground is flat where the gradient is below {FLAT:g}.\n")
    maps = {network: survey(network, points, device) for network in NETWORKS}
    print(f"  {'':8}{'flat':>8}{'median slope':>14}{'steepest':>10}{'error':>16}")
    for network, found in maps.items():
        flat, error = np.mean(found.slope < FLAT), found.error
        print(f"  {network:8}{100 * flat:6.1f} %{np.median(found.slope):14.4f}"
              f"{found.slope.max():10.1f}{error.min():10.4f} to {error.max():.2f}")  # fmt: skip

    print(f"\n{updates} updates from each of {count} random points, learning rate {options.lr:g},")
    print(f"the gradient's norm clipped at {options.clip:g} or not. Jumped: by an update further")
    print(
        f"than {JUMP:g}. Settled: the last 50 within {JUMP:g}. Arrived: at an error below 0.001.\n"
    )
    print(f"  {'':21}{'jumped':>8}{'longest':>11}{'off the map':>13}{'settled':>9}{'arrived':>9}")
    random = np.random.default_rng(options.seed)
    starts = random.uniform((W[0], B[0]), (W[1], B[1]), (count, 2))
    surfaces: dict[str, lab.Surface] = {}
    longest: dict[str, float] = {}
    for network in NETWORKS:
        limits = {"not clipped": math.inf, "clipped": options.clip}
        paths = {
            how: descend(network, starts, options.lr, limit, updates, device)
            for how, limit in limits.items()
        }
        for how, path in paths.items():
            told = judge(network, path, device)
            print(f"  {network:7}{how:14}{sum(told.jumped):8}{told.longest.max():11.3g}", end="")
            print(f"{sum(told.left):13}{sum(told.settled):9}{sum(told.error < 1e-3):9}")
        wildest = judge(network, paths["not clipped"], device).longest
        longest[network] = wildest.max()
        ways = {how: path[:, wildest.argmax()] for how, path in paths.items()}
        surfaces[network] = mapped(network, min(points, 101), ways, device)
    print("\nThe picture shows both ways down from the start with the longest jump.")
    drawn = picture(maps, surfaces, longest)
    print(f"\npicture   {lab.draw_picture(drawn, Path('runs', 'cliff', 'cliff'), options)}")


def main() -> None:
    """Read the options; what is wrong with them is said in one sentence."""
    parser = argparse.ArgumentParser(description="The error surface of one unit, with its cliff.")
    parser.add_argument("--quick", action="store_true", help="a coarse map, in a few seconds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument("--seed", type=int, default=1, help="decides where descent begins")
    parser.add_argument("--lr", type=float, default=1.0, help="learning rate (%(default)s)")
    parser.add_argument("--clip", type=float, default=0.1, help="largest norm (%(default)s)")
    lab.add_picture_options(parser)
    try:
        tell(parser.parse_args())
    except KeyboardInterrupt:
        sys.exit("cliff: aborted")
    except (OSError, ValueError, tg.DeviceError) as error:
        sys.exit(f"cliff: {error}")


if __name__ == "__main__":
    main()
