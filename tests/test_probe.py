"""``probe=``: the total gradient of the state at every step, of every layer and direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import draw, randomise, total

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn
from tinygrad_rnn.tape import leaves, rebuild, tree_map

T, B, I, H = 5, 2, 3, 4


def zeros_for(layer: Any, steps: int = T, batch: int | None = B) -> Any:
    """A probe of zeros: the layer's state with the time in front."""

    def zero(s: Any) -> Any:
        return tg.zeros((steps, *s.shape), s.dtype, requires_grad=True)

    state = layer.initial_state(1 if batch is None else batch)
    if batch is None:
        state = tree_map(lambda s: s[..., 0, :], state)
    return tree_map(zero, state)


LAYERS: dict[str, Any] = {
    "RNN": lambda **o: rnn.RNN(I, H, **o),
    "one LSTM": lambda **o: rnn.LSTM(I, H, **o),
    "LSTMs": lambda **o: rnn.LSTM(I, H, num_layers=2, bidirectional=True, **o),
    "projected": lambda **o: rnn.LSTM(I, H, num_layers=2, proj_size=2, **o),
    "GRUs": lambda **o: rnn.GRU(I, H, num_layers=3, **o),
    "Bidirectional": lambda **o: rnn.Bidirectional(rnn.GRU(I, H, **o), rnn.LSTM(I, H, **o)),
    "Residual": lambda **o: rnn.Residual(rnn.Recurrent(rnn.LSTMCell(I, I), **o)),
    "Stacked": lambda **o: rnn.Stacked(
        [
            rnn.Bidirectional(*(rnn.Recurrent(rnn.LSTMCell(I, H), **o) for _ in "ab")),
            nn.Linear(2 * H, H),
            rnn.GRU(H, H, num_layers=2, **o),
        ]
    ),
}  # fmt: skip


def by_differences(loss: Any, probe: Any, place: tuple[int, ...], k: int) -> float:
    """The central difference of a loss by one element of one Tensor of a probe."""
    found = []
    for sign in (1, -1):
        parts = [np.zeros(p.shape) for p in leaves(probe)]
        parts[k][place] = sign * 1e-5
        found.append(loss(rebuild(probe, map(tg.tensor, parts))).item())
    return (found[0] - found[1]) / 2e-5


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("way", ["plain", "lengths", "batch_first", "reverse", "unbatched"])
def test_every_layer_takes_a_probe(name: str, unroll: bool, way: str) -> None:
    """Its gradient is what central differences say of the layer with that probe."""
    layer = randomise(LAYERS[name](unroll=unroll, batch_first=way == "batch_first"))
    batch = None if way == "unbatched" else B
    x = draw(*{"batch_first": (B, T, I), "unbatched": (T, I)}.get(way, (T, B, I)))
    options: dict[str, Any] = {"lengths": [T, 2]} if way == "lengths" else {}
    options |= {"reverse": True} if way == "reverse" else {}
    weight = draw(*layer(x, **options)[0].shape)

    def loss(probe: Any) -> tg.Tensor:
        output, state = layer(x, **options, probe=probe)
        return tg.sum(output * weight) + total(state)

    probe = zeros_for(layer, batch=batch)
    output, state = layer(x, **options)
    plain = tg.sum(output * weight) + total(state)
    for _ in range(2):  # the second call is known
        value = loss(probe)
        assert value.item() == pytest.approx(plain.item(), abs=1e-12)
        for part in leaves(probe):
            part.grad = None
        value.backward()
    rng = np.random.default_rng(0)
    for k, part in enumerate(leaves(probe)):
        assert part.grad.numpy().any()
        for _ in range(3):
            place = tuple(int(rng.integers(n)) for n in part.shape)
            slope = by_differences(loss, probe, place, k)
            assert part.grad.numpy()[place] == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("unroll", [False, True])
def test_a_probe_at_second_order(unroll: bool) -> None:
    """How the gradient of the states depends on a weight, by central differences."""
    layer = randomise(rnn.LSTM(I, H, num_layers=2, unroll=unroll))
    x, weight, probe = draw(T, B, I), draw(T, B, H), zeros_for(layer)

    def size() -> tg.Tensor:
        h, c = tg.grad(lambda h, c: tg.sum(layer(x, probe=(h, c))[0] * weight), (0, 1))(*probe)
        return tg.sum(tg.square(h)) + tg.sum(tg.square(c))

    size().backward()
    w = layer.weight_hh_l0
    found, place, values = w.grad.numpy()[1, 2], (1, 2), w.detach().copy()
    sizes = []
    for step in (1e-5, -1e-5):
        w.data = values.at[place].add(step)
        sizes.append(size().item())
    assert found == pytest.approx((sizes[0] - sizes[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("recording", [True, False])
def test_a_probe_moves_the_states_of_its_own_layer(recording: bool) -> None:
    """On a tape and without one, at the first call and when it is known."""
    layer = randomise(rnn.GRU(I, H, num_layers=2))
    x, probe = draw(T, B, I), zeros_for(layer).detach()
    with tg.enable_grad() if recording else tg.no_grad():
        for _ in range(2):
            _, plain = layer(x)
            _, moved = layer(x, probe=probe.at[-1, 1].set(1.0))
            np.testing.assert_array_equal(moved[0].numpy(), plain[0].numpy())
            np.testing.assert_allclose(moved[1].numpy(), plain[1].numpy() + 1, rtol=1e-12)


def test_a_part_of_a_stack_is_probed() -> None:
    layer = randomise(LAYERS["Stacked"]())
    whole = zeros_for(layer)
    x = draw(T, B, I)
    total(layer(x, probe=whole)[0]).backward()
    part = (None, None, zeros_for(layer.layers[2]))
    total(layer(x, probe=part)[0]).backward()
    np.testing.assert_array_equal(part[2].grad.numpy(), whole[2].grad.numpy())


PROBE = tg.zeros((T, B, H))


@pytest.mark.parametrize(
    ("layer", "probe", "message"),
    [
        (
            rnn.LSTM(I, H, num_layers=2),
            (PROBE, PROBE),
            "LSTM: probe must be LSTMState(float32 (5, 2, 2, 4), float32 (5, 2, 2, 4)), got "
            "tuple(float32 (5, 2, 4), float32 (5, 2, 4))",
        ),
        (
            rnn.Stacked([rnn.Recurrent(rnn.RNNCell(I, H)), nn.Linear(H, H)]),
            PROBE,
            "Stacked: probe must be a tuple with an entry per layer, got Tensor",
        ),
        (
            rnn.Stacked([rnn.Recurrent(rnn.RNNCell(I, H)), nn.Linear(H, H)]),
            (PROBE, PROBE),
            "Stacked: layer 1 is a Linear, which has no state: its entry must be None, got Tensor",
        ),
        (
            rnn.Bidirectional(*(rnn.Recurrent(rnn.RNNCell(I, H)) for _ in "ab")),
            (PROBE,),
            "Bidirectional: probe must have 2 entries, one per layer, got 1",
        ),
        (
            rnn.Bidirectional(*(rnn.Recurrent(rnn.RNNCell(I, H)) for _ in "ab")),
            (PROBE, PROBE[:3]),
            "Recurrent(RNNCell): probe must be float32 (5, 2, 4), got float32 (3, 2, 4)",
        ),
    ],
)
def test_probes_that_do_not_fit(layer: Any, probe: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        layer(tg.ones((T, B, I)), probe=probe)
    assert str(caught.value) == message


def test_a_probe_without_a_batch_has_none() -> None:
    layer = rnn.Recurrent(rnn.RNNCell(I, H))
    with pytest.raises(ValueError, match=r"probe must be float32 \(5, 4\), got float32 \(5, 1, 4"):
        layer(tg.ones((T, I)), probe=tg.zeros((T, 1, H)))


def test_a_stream_has_no_probe() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'probe'"):
        rnn.LSTM(I, H).step(tg.ones((B, I)), probe=PROBE)
