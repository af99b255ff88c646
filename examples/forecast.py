"""What comes next? A recurrent network goes on with a series of numbers by itself.

It reads the last values of a series, then writes: each value that it expects is its next input, and
so one state becomes many values. Beside it stand the two forecasts that cost nothing: the last
value stays (naive), and what was one season ago comes again (seasonal naive). The measure is the
mean absolute error over all windows of the last fifth of the series, which nothing was fitted to,
by steps ahead, in standard deviations of the series.

    python examples/forecast.py                                  an electroencephalogram
    python examples/forecast.py --file co2.csv --column ppm --season 12
    python examples/forecast.py --quick                          a few seconds

The default is 10 seconds of brain waves, 800 values that come with matplotlib (its sample data
eeg.dat, fourth channel). A file of yours is a CSV with one value per time step.

Measured with the default settings and seeds 1, 2, 3, over all ten steps: naive 0.889, seasonal
naive 0.938 (brain waves have no season: they are most like themselves after 2 steps), LSTM 0.692
(0.681 to 0.705). One step ahead it is 0.331, 0.555 and 0.319, ten steps ahead 1.170, 1.170 and
0.780. That takes half a minute of one core.

The file reads from top to bottom: the series, the naive forecasts, the model, training, the
picture, and `main`, which is the story. Letters: T values read, K values written, B windows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, optim, rnn


class Size(NamedTuple):
    """How much is done."""

    length: int
    horizon: int
    hidden: int
    epochs: int


FULL = Size(length=40, horizon=10, hidden=32, epochs=20)
QUICK = Size(length=20, horizon=5, hidden=16, epochs=4)
BATCH, RATE, HELD_OUT = 32, 0.005, 0.2


# The series: numbers with mean 0 and standard deviation 1 in the part that is learned from.


def brain_waves() -> np.ndarray:
    """A channel of an electroencephalogram, about 80 values in a second: (800,)."""
    try:
        from matplotlib.cbook import get_sample_data
    except ImportError:
        raise ValueError(
            'the default series comes with matplotlib: pip install "tinygrad_rnn[lab]", or give '
            "a series of yours with --file"
        ) from None
    with get_sample_data("eeg.dat") as file:
        return np.frombuffer(file.read(), np.float64).reshape(800, 4)[:, 3].copy()


def season_of(series: np.ndarray, most: int) -> int:
    """The number of steps, from 2, after which a series is most like itself."""
    errors = [np.abs(series[k:] - series[:-k]).mean() for k in range(2, most + 1)]
    return 2 + int(np.argmin(errors))


# The forecasts that cost nothing: of inputs (T, B), K values (K, B).


def naive(inputs: np.ndarray, horizon: int) -> np.ndarray:
    """The last value stays."""
    return np.repeat(inputs[-1:], horizon, axis=0)


def seasonal_naive(inputs: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """The last season comes again and again."""
    return inputs[len(inputs) - season + np.arange(horizon) % season]


# The model: it reads (T, B, 1), then goes on alone.


class Forecaster(nn.Module):
    """An LSTM whose output is by how much the next value differs from the present one."""

    def __init__(self, hidden: int) -> None:
        self.recurrent = rnn.LSTM(1, hidden)
        self.output = nn.Linear(hidden, 1)

    def forward(self, inputs: tg.Tensor, horizon: int) -> tg.Tensor:
        """The next ``horizon`` values (K, B, 1)."""
        outputs, state = self.recurrent(inputs)
        values = [inputs[-1:] + self.output(outputs[-1:])]
        while len(values) < horizon:
            outputs, state = self.recurrent(values[-1], state)
            values.append(values[-1] + self.output(outputs))
        return tg.concat(values)


def train(model: Forecaster, series: np.ndarray, size: Size, device: str, seed: int) -> None:
    """Every window of the series, in another order in each epoch; all K values count the same.

    The gradient goes back through the values that the model has written itself.
    """
    inputs, targets = data.windows(series[:, None].astype(np.float32), size.length, size.horizon)
    random = np.random.default_rng(seed)
    updates = size.epochs * -(-inputs.shape[1] // BATCH)
    optimizer = optim.Adam(model.parameters(), lr=RATE, clip=optim.ClipNorm(1.0))
    schedule = optim.schedules.Linear(RATE, updates)
    for _ in range(size.epochs):
        order = random.permutation(inputs.shape[1])
        for k in range(0, len(order), BATCH):
            x, y = (tg.tensor(part[:, order[k : k + BATCH]], device=device)
                    for part in (inputs, targets))  # fmt: skip
            optimizer.zero_grad()
            optimizer.lr = schedule(optimizer.updates)
            nn.l1_loss(model(x, size.horizon), y).backward()
            optimizer.step()


def picture(errors: dict[str, np.ndarray], window: dict[str, np.ndarray]) -> lab.Picture:
    """The errors by steps ahead, and one window of what was held out."""
    ahead = np.arange(1, len(errors["naive"]) + 1)
    series = window["the series"]
    truth = series[-len(ahead) :]
    off = {way: np.abs(window[way] - truth).mean() for way in errors}
    styles = {way: {"marker": mark, "color": lab.COLOURS[colour], "label": way}
              for way, mark, colour in zip(errors, "os^", ("orange", "sky", "blue"),
                                           strict=True)}  # fmt: skip

    def by_steps(axes: Any) -> None:
        for way in errors:
            axes.plot(ahead, errors[way], **styles[way])
        axes.set(xlabel="steps ahead", ylabel="mean absolute error, standard deviations", ylim=0)
        axes.legend()

    def one_window(axes: Any) -> None:
        before = np.arange(len(series)) - len(series) + ahead[-1] + 1
        axes.plot(before, series, color="black", label="the series", linewidth=4, alpha=0.5)
        for way in errors:
            axes.plot(ahead, window[way], **styles[way])
        axes.set(xlabel="steps ahead", ylabel="standard deviations")
        axes.legend()

    return lab.Picture(
        [
            lab.Panel(
                "errors",
                f"{ahead[-1]} steps ahead the LSTM is off by {errors['LSTM'][-1]:.2f}, the last "
                f"value by {errors['naive'][-1]:.2f}",
                by_steps,
            ),
            lab.Panel(
                "window",
                "One window that nothing was fitted to: off by "
                + ", ".join(f"{error:.2f} ({way})" for way, error in off.items()),
                one_window,
            ),
        ],
        columns=1,
    )


# The story.


def tell(options: argparse.Namespace) -> None:
    """Read the series, forecast in three ways, compare."""
    size = QUICK if options.quick else FULL
    if options.file is None:
        name, values = "an electroencephalogram", brain_waves()
    else:
        name, values = options.file, data.read_series(options.file, options.column)
    learned, _ = data.split_held_out(values, HELD_OUT)
    if len(learned) <= size.length or not learned.std():
        raise ValueError(
            f"the first {len(learned):,} values of the series must be more than {size.length}, and "
            "not all the same"
        )
    series = (values - learned.mean()) / learned.std()
    fitted, season = series[: len(learned)], options.season
    if season is None:
        season = season_of(fitted, size.length)
    if season < 1:
        raise ValueError(f"--season must be at least 1, got {season}")
    size = size._replace(length=max(size.length, season))
    # The first value to be forecast is the first one that nothing was fitted to.
    inputs, targets = data.windows(series[len(fitted) - size.length :], size.length, size.horizon)

    print(
        f"series    {name}: {len(series):,} values, the last {len(series) - len(fitted):,} held out"
    )
    print(f"forecast  {size.horizon} values from {size.length}, {inputs.shape[1]} times")
    print(
        f"season    {season} steps", "" if options.season else "(of those it is most alike after)"
    )
    seeds = options.seeds[:1] if options.quick else options.seeds
    print(
        f"training  {size.epochs} epochs, {size.hidden} units, seeds {', '.join(map(str, seeds))}\n"
    )

    forecasts = {
        "naive": [naive(inputs, size.horizon)],
        "seasonal naive": [seasonal_naive(inputs, size.horizon, season)],
        "LSTM": [],
    }
    for seed in seeds:
        tg.manual_seed(seed)
        model = Forecaster(size.hidden).to(options.device)
        train(model, fitted, size, options.device, seed)
        with tg.no_grad():
            x = tg.tensor(inputs[:, :, None].astype(np.float32), device=options.device)
            forecasts["LSTM"].append(model(x, size.horizon).numpy()[:, :, 0])

    steps = sorted({1, (size.horizon + 1) // 2, size.horizon})
    print(f"{'mean absolute error':20}" + "".join(f"{f'step {k}':>10}" for k in steps), end="")
    print(f"{'all steps':>12}")
    errors: dict[str, np.ndarray] = {}
    for way, found in forecasts.items():
        each = np.abs(np.array(found) - targets).mean(axis=2)  # (seeds, K)
        errors[way], every = each.mean(axis=0), each.mean(axis=1)
        row = "".join(f"{errors[way][k - 1]:10.3f}" for k in steps)
        spread = f" ({every.min():.3f} to {every.max():.3f})" if len(found) > 1 else ""
        print(f"{way:20}{row}{every.mean():12.3f}{spread}")
    window = {way: found[0][:, 0] for way, found in forecasts.items()}
    window["the series"] = np.concatenate([inputs[:, 0], targets[:, 0]])
    folder = Path("runs", "forecast_quick" if options.quick else "forecast")
    drawn = lab.draw_picture(picture(errors, window), folder / "errors", options)
    print(f"\npicture   {drawn}")


def main() -> None:
    """Read the options; what is wrong with them is said in one sentence."""
    parser = argparse.ArgumentParser(description="Forecast a series by a network that goes on.")
    parser.add_argument("--file", help="a CSV file with one value per time step")
    parser.add_argument("--column", help="the name of its column, by default the last one")
    parser.add_argument("--season", type=int, help="steps of a season, looked for if not given")
    parser.add_argument("--quick", action="store_true", help="everything small, in a few seconds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="one run for each of them (1 2 3)"
    )
    lab.add_picture_options(parser)
    try:
        tell(parser.parse_args())
    except KeyboardInterrupt:
        sys.exit("forecast: aborted")
    except (OSError, ValueError, FloatingPointError, tg.DeviceError) as error:
        sys.exit(f"forecast: {error}")


if __name__ == "__main__":
    main()
