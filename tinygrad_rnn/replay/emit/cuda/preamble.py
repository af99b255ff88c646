"""CUDA C functions that kernels of a loop call, in a dialect that g++ understands as well.

No header is included, so that NVRTC needs none. What is left to the host compiler that the tests
use is in ``tests/host_cuda.py``.
"""

PREAMBLE = """\
#ifdef __CUDACC__
__device__ inline float loop_from_half(unsigned short x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
    return y;
}
__device__ inline unsigned short loop_to_half(float x) {
    unsigned short y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
__device__ inline unsigned short loop_to_half(double x) {
    unsigned short y;
    asm("cvt.rn.f16.f64 %0, %1;" : "=h"(y) : "d"(x));
    return y;
}
#endif
__device__ inline double loop_infinity() { return __longlong_as_double(0x7ff0000000000000LL); }
__device__ inline double loop_nan() { return __longlong_as_double(0x7ff8000000000000LL); }
template <typename T> __device__ T loop_maximum(T x, T y) { return x >= y || x != x ? x : y; }
template <typename T> __device__ T loop_minimum(T x, T y) { return x <= y || x != x ? x : y; }
template <typename T> __device__ T loop_sign(T x) {
    return x > 0 ? T(1) : x < 0 ? T(-1) : x == 0 ? T(0) : x;
}
template <typename T> __device__ T loop_abs(T x) { return x < 0 ? -x : x; }
template <typename T> __device__ bool loop_isnan(T x) { return x != x; }
template <typename T> __device__ bool loop_isfinite(T x) { return x - x == 0; }
template <typename T> __device__ T loop_modulo(T x, T y) { return y == 0 || y == -1 ? 0 : x % y; }
template <typename T> __device__ T loop_remainder(T rest, T y) {
    if (rest == 0) return y < 0 ? -T(0) : T(0);
    return (rest < 0) == (y < 0) ? rest : rest + y;
}
template <typename T> __device__ T loop_floor_divide(T x, T y) {
    if (y == 0) return 0;
    if (y == -1) return -x;
    return x / y - (x % y != 0 && (x < 0) != (y < 0));
}
template <typename T> __device__ T loop_ratio(T x, T y, T rest) {
    if (y == 0) return x / y;
    const T ratio = (x - rest) / y - (rest != 0 && (rest < 0) != (y < 0) ? 1 : 0);
    return ratio == 0 ? x / y * 0 : ratio;
}
template <typename T> __device__ T loop_power(T x, T n) {
    T y = n < 0 ? 0 : 1;
    for (; n > 0; n >>= 1, x *= x)
        if (n & 1) y *= x;
    return y;
}
struct loop_sum { template <typename T> static __device__ T of(T x, T y) { return x + y; } };
struct loop_max {
    template <typename T> static __device__ T of(T x, T y) { return loop_maximum(x, y); }
};
struct loop_min {
    template <typename T> static __device__ T of(T x, T y) { return loop_minimum(x, y); }
};
template <typename F, typename T> __device__ T loop_reduce(T value, T* scratch) {
    scratch[threadIdx.x] = value;
    for (unsigned step = blockDim.x / 2; step > 0; step /= 2) {
        __syncthreads();
        if (threadIdx.x < step)
            scratch[threadIdx.x] = F::of(scratch[threadIdx.x], scratch[threadIdx.x + step]);
    }
    __syncthreads();
    return scratch[0];
}
"""
"""Functions for every kernel.

A block has a power of two of threads, so that the tree of ``loop_reduce`` is a fixed one. Only the
first thread may use its result: behind the last barrier that thread alone writes to the place that
it reads.
"""
