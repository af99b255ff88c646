"""The networks that benchmarks/replay.py and gpu.py time, in PyTorch and in JAX.

``by hand`` is a cell as a user writes it in PyTorch: the product of the inputs hoisted out of the
loop, the gates in one product.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ours import HEADS, Step, numbers


def torch_step(
    kind: str,
    T: int,
    B: int,
    I: int,
    H: int,
    by_hand: bool,
    device: str = "cpu",
    dtype: str = "float32",
    compiled: str = "",
) -> Step:
    """One training step of a layer of PyTorch, or of one by hand.

    ``compiled`` says what of an LSTM by hand is: its "cell", or the whole "loop".
    """
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    array, arrays = numbers(kind, T, B, I, H)
    there: dict[str, Any] = {"device": device, "dtype": getattr(torch, dtype)}
    x = torch.tensor(array, requires_grad=True, **there)
    if by_hand:
        weights = [torch.tensor(array, requires_grad=True, **there) for array in arrays]
        unrolled = TORCH[kind]
        if compiled:
            torch.compiler.reset()  # beyond a number of shapes it would be compiled no more
        if compiled == "loop":
            unrolled = torch.compile(unrolled, dynamic=False)
        elif compiled == "cell":
            unrolled = partial(unrolled, cell=torch.compile(torch_lstm_cell, dynamic=False))

        def outputs() -> torch.Tensor:
            return unrolled(x, *weights)

    else:
        layer = getattr(torch.nn, kind)(I, H, **there)
        weights = list(layer.parameters())
        with torch.no_grad():
            for weight, array in zip(weights, arrays, strict=True):
                weight.copy_(torch.from_numpy(array))

        def outputs() -> torch.Tensor:
            return layer(x)[0]

    def step() -> list[Any]:
        for leaf in (x, *weights):
            leaf.grad = None
        loss = outputs().square().mean()
        loss.backward()
        return [loss.detach(), x.grad, *(weight.grad for weight in weights)]

    return step


def torch_lstm_cell(z: Any, h: Any, c: Any, w_hh: Any) -> tuple[Any, Any]:
    """The state (h, c) after a step of an LSTM whose inputs were multiplied before."""
    import torch

    i, f, g, o = (z + h @ w_hh.T).chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def torch_lstm(
    x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, cell: Callable[..., Any] = torch_lstm_cell
) -> Any:
    """The outputs (T, B, H) of an LSTM."""
    import torch

    h = c = x.new_zeros(x.shape[1], w_hh.shape[1])
    outputs = []
    for z in x @ w_ih.T + (b_ih + b_hh):
        h, c = cell(z, h, c, w_hh)
        outputs.append(h)
    return torch.stack(outputs)


def torch_peephole(
    x: Any, w_ih: Any, w_hh: Any, bias: Any, peep_i: Any, peep_f: Any, peep_o: Any
) -> Any:
    """The outputs (T, B, H) of a peephole LSTM."""
    import torch

    h = c = x.new_zeros(x.shape[1], w_hh.shape[1])
    outputs = []
    for z in x @ w_ih.T + bias:
        i, f, g, o = (z + h @ w_hh.T).chunk(4, 1)
        i, f = torch.sigmoid(i + peep_i * c), torch.sigmoid(f + peep_f * c)
        c = f * c + i * torch.tanh(g)
        h = torch.sigmoid(o + peep_o * c) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


def torch_layer_norm(
    x: Any, w_ih: Any, w_hh: Any, bias: Any, gain_x: Any, gain_h: Any, gain_c: Any, bias_c: Any
) -> Any:
    """The outputs (T, B, H) of a layer-norm LSTM."""
    import torch
    from torch.nn.functional import layer_norm

    h = c = x.new_zeros(x.shape[1], w_hh.shape[1])
    outputs = []
    for z in layer_norm(x @ w_ih.T, gain_x.shape, gain_x) + bias:
        i, f, g, o = (z + layer_norm(h @ w_hh.T, gain_h.shape, gain_h)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(layer_norm(c, gain_c.shape, gain_c, bias_c))
        outputs.append(h)
    return torch.stack(outputs)


def torch_matrix(
    x: Any, w_qkv: Any, b_qkv: Any, w_gates: Any, b_gates: Any, w_o: Any, b_o: Any
) -> Any:
    """The outputs (T, B, H) of a matrix LSTM."""
    import torch

    (T, B, _), H = x.shape, w_o.shape[0]
    d = H // HEADS
    q, k, v = (x @ w_qkv.T + b_qkv).reshape(T, B, 3, HEADS, d).unbind(2)
    i, f = torch.sigmoid(x @ w_gates.T + b_gates).reshape(T, B, 2, HEADS, 1, 1).unbind(2)
    o = torch.sigmoid(x @ w_o.T + b_o)
    q, k, v = q.unsqueeze(-1), k.unsqueeze(-2) * d**-0.5, v.unsqueeze(-1)
    C, n = x.new_zeros(B, HEADS, d, d), x.new_zeros(B, HEADS, 1, d)
    outputs = []
    for t in range(T):
        C = f[t] * C + i[t] * v[t] * k[t]
        n = f[t] * n + i[t] * k[t]
        read = (C @ q[t]) / (n @ q[t]).abs().clamp(min=1)
        outputs.append(read.reshape(B, H))
    return o * torch.stack(outputs)


TORCH: dict[str, Callable[..., Any]] = {
    "LSTM": torch_lstm,
    "peephole LSTM": torch_peephole,
    "layer-norm LSTM": torch_layer_norm,
    "matrix LSTM": torch_matrix,
}


def jax_step(kind: str, T: int, B: int, I: int, H: int) -> Step:
    """One training step of ``jit(value_and_grad(scan))``."""
    import jax

    jax.config.update("jax_default_matmul_precision", "float32")  # on a GPU it may be less
    array, arrays = numbers(kind, T, B, I, H)
    scan = {"LSTM": jax_lstm, "GRU": jax_gru}[kind]

    def loss(leaves: Sequence[Any]) -> Any:
        return (scan(*leaves) ** 2).mean()

    leaves = [jax.numpy.asarray(leaf) for leaf in (array, *arrays)]
    compiled = jax.jit(jax.value_and_grad(loss))

    def step() -> list[Any]:
        value, gradients = jax.block_until_ready(compiled(leaves))
        return [value, *gradients]

    return step


def jax_lstm(x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    """The outputs (T, B, H) of an LSTM."""
    import jax

    def step(state: tuple[Any, Any], z: Any) -> tuple[tuple[Any, Any], Any]:
        h, c = state
        i, f, g, o = jax.numpy.split(z + h @ w_hh.T, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jax.numpy.tanh(g)
        h = jax.nn.sigmoid(o) * jax.numpy.tanh(c)
        return (h, c), h

    zeros = jax.numpy.zeros((x.shape[1], w_hh.shape[1]), x.dtype)
    return jax.lax.scan(step, (zeros, zeros), x @ w_ih.T + (b_ih + b_hh))[1]


def jax_gru(x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    """The outputs (T, B, H) of a GRU whose reset comes after the product."""
    import jax

    def step(h: Any, z: Any) -> tuple[Any, Any]:
        x_r, x_z, x_n = jax.numpy.split(z, 3, 1)
        h_r, h_z, h_n = jax.numpy.split(h @ w_hh.T + b_hh, 3, 1)
        n = jax.numpy.tanh(x_n + jax.nn.sigmoid(x_r + h_r) * h_n)
        z = jax.nn.sigmoid(x_z + h_z)
        h = (1 - z) * n + z * h
        return h, h

    zeros = jax.numpy.zeros((x.shape[1], w_hh.shape[1]), x.dtype)
    return jax.lax.scan(step, zeros, x @ w_ih.T + b_ih)[1]
