"""cuBLAS of the stand-in, in C++: what ``backends/cublas.py`` calls, with plain loops.

It checks its arguments as cuBLAS does and answers with its codes, and with EXECUTION_FAILED where
on a card something would go wrong unseen: where the stream is not the current one, or no workspace
was set behind the stream. A product on a stream that captures becomes a node of the graph.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import host_cuda

from cupy.cuda import current

SOURCE = """
#include <cstddef>
enum { SUCCESS, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
struct Handle { size_t stream; bool workspace; int mode; };
struct Product {
    int transa, transb, m, n, k, atype, lda, btype, ldb, ctype, ldc, count;
    long long stridea, strideb, stridec;
    double alpha, beta;
    const char *a, *b;
    char *c;
};
// 0: run it now, 1: it is a node, else refuse
static int (*arrives)(size_t stream, const Product*);
extern "C" void stand_in_set(int (*function)(size_t, const Product*)) { arrives = function; }
static size_t size_of(int type) { return type == 2 ? 2 : type == 1 ? 8 : 4; }
static double get(const char* p, long long i, int type) {
    if (type == 2) return loop_from_half(((const unsigned short*)p)[i]);
    return type == 1 ? ((const double*)p)[i] : ((const float*)p)[i];
}
static void put(char* p, long long i, int type, double x) {
    if (type == 2) ((unsigned short*)p)[i] = loop_to_half((float)x);
    else if (type == 1) ((double*)p)[i] = x;
    else ((float*)p)[i] = (float)x;
}
template <typename S>
static void multiply(const Product& p, const char* a, const char* b, char* c) {
    for (int j = 0; j < p.n; ++j)
        for (int i = 0; i < p.m; ++i) {
            S sum = 0;
            for (int l = 0; l < p.k; ++l) {
                const long long at = p.transa ? l + (long long)i * p.lda : i + (long long)l * p.lda;
                const long long bt = p.transb ? j + (long long)l * p.ldb : l + (long long)j * p.ldb;
                sum += (S)get(a, at, p.atype) * (S)get(b, bt, p.btype);
            }
            const long long ct = i + (long long)j * p.ldc;
            put(c, ct, p.ctype, p.alpha * sum + (p.beta ? p.beta * get(c, ct, p.ctype) : 0));
        }
}
extern "C" void stand_in_run(const Product* p) {
    for (int s = 0; s < p->count; ++s) {
        const char* a = p->a + s * p->stridea * size_of(p->atype);
        const char* b = p->b + s * p->strideb * size_of(p->btype);
        char* c = p->c + s * p->stridec * size_of(p->ctype);
        if (p->ctype == 1) multiply<double>(*p, a, b, c); else multiply<float>(*p, a, b, c);
    }
}
extern "C" int cublasCreate_v2(Handle** handle) {
    *handle = new Handle{0, false, 0};
    return SUCCESS;
}
extern "C" int cublasSetMathMode(Handle* handle, int mode) {
    if (!handle) return NOT_INITIALIZED;
    handle->mode = mode;
    return mode == 16 ? SUCCESS : INVALID_VALUE;
}
extern "C" int cublasSetStream_v2(Handle* handle, size_t stream) {
    if (!handle) return NOT_INITIALIZED;
    handle->stream = stream;
    handle->workspace = false;
    return SUCCESS;
}
extern "C" int cublasSetWorkspace_v2(Handle* handle, void* memory, size_t size) {
    if (!handle) return NOT_INITIALIZED;
    if (!memory || (size_t)memory % 16 || size < 4 << 20) return INVALID_VALUE;
    handle->workspace = true;
    return SUCCESS;
}
static int least(int transposed, int rows, int columns) {
    const int least = transposed ? columns : rows;
    return least > 1 ? least : 1;
}
static int asked(Handle* handle, Product& p, const void* alpha, const void* beta, int compute) {
    if (!handle) return NOT_INITIALIZED;
    const bool is_double = p.atype == 1 && p.btype == 1 && p.ctype == 1 && compute == 70;
    const bool is_float = p.atype != 1 && p.atype == p.btype && compute == 68
        && (p.ctype == 0 || (p.ctype == 2 && p.atype == 2));
    if (!is_double && !is_float) return NOT_SUPPORTED;
    if (p.m < 0 || p.n < 0 || p.k < 0 || p.count < 0 || p.transa > 1u || p.transb > 1u
        || p.lda < least(p.transa, p.m, p.k) || p.ldb < least(p.transb, p.k, p.n)
        || p.ldc < least(0, p.m, p.n) || !alpha || !beta)
        return INVALID_VALUE;
    if (!handle->workspace || handle->mode != 16) return EXECUTION_FAILED;
    p.alpha = is_double ? *(const double*)alpha : *(const float*)alpha;
    p.beta = is_double ? *(const double*)beta : *(const float*)beta;
    const int what = arrives(handle->stream, &p);
    if (what == 0) stand_in_run(&p);
    return what > 1 ? EXECUTION_FAILED : SUCCESS;
}
extern "C" int cublasGemmEx(
    Handle* handle, int transa, int transb, int m, int n, int k, const void* alpha,
    const void* a, int atype, int lda, const void* b, int btype, int ldb, const void* beta,
    void* c, int ctype, int ldc, int compute, int algorithm) {
    if (algorithm != -1) return INVALID_VALUE;
    Product p{transa, transb, m, n, k, atype, lda, btype, ldb, ctype, ldc, 1, 0, 0, 0, 0, 0,
        (const char*)a, (const char*)b, (char*)c};
    return asked(handle, p, alpha, beta, compute);
}
extern "C" int cublasGemmStridedBatchedEx(
    Handle* handle, int transa, int transb, int m, int n, int k, const void* alpha,
    const void* a, int atype, int lda, long long stridea,
    const void* b, int btype, int ldb, long long strideb, const void* beta,
    void* c, int ctype, int ldc, long long stridec, int count, int compute, int algorithm) {
    if (algorithm != -1) return INVALID_VALUE;
    Product p{transa, transb, m, n, k, atype, lda, btype, ldb, ctype, ldc, count,
        stridea, strideb, stridec, 0, 0, (const char*)a, (const char*)b, (char*)c};
    return asked(handle, p, alpha, beta, compute);
}
"""
NAME = "libcublas.so.13"
_SIZE = 12 * 4 + 3 * 8 + 2 * 8 + 3 * 8  # of a Product
_kept: list[Any] = []
products = 0
"""How many were asked for, those in a graph once for each time that it is launched."""


def load(folder: Path) -> None:
    """Load the library, so that whoever asks for it by its name finds it."""
    if _kept:
        return
    folder.mkdir(parents=True, exist_ok=True)
    text, named = host_cuda.DIALECT + SOURCE, f"-Wl,-soname,{NAME}"
    made = host_cuda.compiled(text, folder, ".so", "-shared", named)
    library = ctypes.CDLL(str(made), mode=ctypes.RTLD_GLOBAL)

    def run(product: Any) -> None:
        global products
        products += 1
        library.stand_in_run(product)

    def arrives(stream: int, product: int) -> int:
        global products
        if stream != current.stream.ptr:
            return 2
        if current.capture is None:
            products += 1
            return 0
        copied = ctypes.create_string_buffer(ctypes.string_at(product, _SIZE), _SIZE)
        current.capture.append(lambda: run(copied))
        return 1

    answer = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t)(arrives)
    library.stand_in_set(answer)
    _kept.extend([library, answer])
