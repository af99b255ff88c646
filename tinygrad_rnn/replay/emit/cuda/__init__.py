"""The kernels of a step as CUDA source."""
