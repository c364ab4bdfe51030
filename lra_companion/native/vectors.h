/* Vectors, and what is done to each number on its own: tanh, the local losses' derivatives, norms. REAL is float or double. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define WIDTH ((long)(BYTES / sizeof(REAL)))

typedef REAL vec __attribute__((vector_size(BYTES)));
#define INLINE static inline __attribute__((always_inline))

enum loss { MSE, LOG_PENALTY, HUBER, L1 };

/* ---- elementwise: plain loops over whole vectors, which compilers turn into vector instructions -------------------------- */

/* float: x P(x^2) / Q(x^2), fitted to a relative error of 2.3e-8 on [0, 9.1], from where on float32's tanh is 1. */
INLINE REAL tanh_one(REAL x) {
    if (sizeof(REAL) == 8) return (REAL)tanh((double)x);
    const REAL bounded = x > (REAL)9.1 ? (REAL)9.1 : x < (REAL)-9.1 ? (REAL)-9.1 : x; /* NaN stays NaN */
    const REAL t = bounded * bounded;
    REAL p = t * (REAL)1.32063466555e-8 + (REAL)2.05021317358e-5;
    p = p * t + (REAL)0.0034890908837;
    p = p * t + (REAL)0.133755553786;
    p = p * t + (REAL)0.99999997781;
    REAL q = t * (REAL)7.71588424424e-7 + (REAL)0.000327500811761;
    q = q * t + (REAL)0.0258522654248;
    q = q * t + (REAL)0.467088695672;
    q = q * t + (REAL)1;
    const REAL y = bounded * p / q;
    return y > 1 ? 1 : y < -1 ? -1 : y;
}

/* y = tanh(x); x and y may be the same. */
int tanh_all(const REAL *x, REAL *y, long count) {
    for (long i = 0; i < count; i++) y[i] = tanh_one(x[i]);
    return 0;
}

/* loss'(state - target), as in local_losses.py. */
INLINE REAL derivative(enum loss loss, REAL x) {
    switch (loss) {
        case MSE:
            return 2 * x;
        case LOG_PENALTY:
            return x / ((x * x + 1) * (REAL)0.5);
        case HUBER:
            return x > 1 ? 1 : x < -1 ? -1 : x;
        default:
            return x > 0 ? 1 : x < 0 ? -1 : x; /* at the kink 0, and NaN stays NaN */
    }
}

/* The squares of a row, summed vector by vector, to which `square` adds. */
typedef struct {
    REAL lanes[BYTES / sizeof(REAL)];
} squares;

INLINE REAL total(const squares *sum) {
    REAL all = 0;
    for (long l = 0; l < WIDTH; l++) all += sum->lanes[l];
    return all;
}

/* Below SMALL squares lose digits (stability.norm): the row is magnified by a power of two, which costs none. */
#define SMALL (sizeof(REAL) == 4 ? (REAL)0x1p-50 : (REAL)0x1p-400)
#define MAGNIFIER (sizeof(REAL) == 4 ? (REAL)0x1p64 : (REAL)0x1p512)
#define TINY (sizeof(REAL) == 4 ? (REAL)0x1p-126 : (REAL)0x1p-1022) /* the smallest normal number */

INLINE REAL root(REAL x) { return sizeof(REAL) == 4 ? sqrtf(x) : sqrt(x); }

static REAL norm(REAL sum_of_squares, const REAL *x, long count) {
    const REAL size = root(sum_of_squares);
    if (!(size < SMALL)) return size;
    REAL sum = 0;
    for (long i = 0; i < count; i++) sum += (x[i] * MAGNIFIER) * (x[i] * MAGNIFIER);
    return root(sum) / MAGNIFIER;
}

