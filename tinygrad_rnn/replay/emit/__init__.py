"""A loop as data becomes one that runs: array calls, one function by Numba, or CUDA kernels.

Imports passes/ and what stands to its left. Read choice.py first: which emitter runs a loop.
"""
