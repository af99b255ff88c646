"""What lab.Monitor costs: the training of examples/char_lm.py with it and without, in turn.

    python benchmarks/monitor.py [--rounds 5] [--updates 300] [--quick]

Each round trains the default model (LSTM, 256 units, 32 sequences of 64 characters) from the same
start, once without and once with a monitor at its defaults, for as many updates. The ratios are
those of the two, of wall time and of processor time, which other work on the machine disturbs less.
Beside them stands what the monitor itself says that it took.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import table, versions

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, optim, rnn, training


class CharacterModel(nn.Module):
    """That of examples/char_lm.py."""

    def __init__(self, characters: int, hidden: int) -> None:
        self.embedding = nn.Embedding(characters, hidden // 4)
        self.recurrent = rnn.LSTM(hidden // 4, hidden)
        self.output = nn.Linear(hidden, characters)

    def forward(self, characters: Any, state: Any = None) -> tuple[tg.Tensor, Any]:
        outputs, state = self.recurrent(self.embedding(characters), state)
        return self.output(outputs), state


def trained(
    hidden: int, updates: int, monitor: lab.Monitor | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Wall and processor seconds of so many updates, and the model's values after them."""
    tg.manual_seed(1)
    text = data.python_reference()
    vocabulary = data.Vocabulary.of(text)
    batches = data.ContiguousBatches(vocabulary.encode(text), 32, 64)
    model = CharacterModel(len(vocabulary), hidden)
    optimizer = optim.Adam(model.parameters(), lr=0.008, clip=optim.ClipNorm(1.0))

    def loss(batch: data.Batch, state: Any) -> tuple[tg.Tensor, Any]:
        scores, state = model(batch.inputs, state)
        return nn.cross_entropy(scores, batch.targets, axis=-1), state

    with tempfile.TemporaryDirectory() as folder:
        trainer = training.Trainer(
            model, optimizer, loss, batches, folder=Path(folder, "run"), progress=False,
            callbacks=[] if monitor is None else [monitor],
        )  # fmt: skip
        start = np.array([time.perf_counter(), time.process_time()])
        trainer.fit(updates=updates)
        seconds = np.array([time.perf_counter(), time.process_time()]) - start
        return seconds, model.state_dict()


def main() -> None:
    """Parse the options, train in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="a small model, one round")
    options = parser.parse_args()
    hidden, updates, rounds = (
        (64, 60, 1) if options.quick else (256, options.updates, options.rounds)
    )
    trained(hidden, 5, lab.Monitor(every=2, share=1))  # what is compiled once
    rows, ratios = [], []
    for _ in range(rounds):
        monitor = lab.Monitor()
        without, one = trained(hidden, updates, None)
        with_it, other = trained(hidden, updates, monitor)
        if not all(np.array_equal(one[name], other[name]) for name in one):
            raise SystemExit("training computed other numbers with a monitor")
        ratios.append(with_it / without)
        share = f"{100 * monitor.seconds / with_it[0]:.1f} %"
        look = f"{monitor.seconds / monitor.looks:.2f} s"
        rows.append([without[0], with_it[0], *ratios[-1], monitor.looks, look, share])
    print(f"{versions()}\n\n{updates} updates, {hidden} units; seconds of each run\n")
    header = ["without", "with", "wall", "processor", "looks", "a look", "by its own account"]
    print(table(header, rows))
    wall, processor = np.median(ratios, axis=0)
    print(f"\nmedians of the ratios: wall {wall:.3f}, processor {processor:.3f}")


if __name__ == "__main__":
    main()
