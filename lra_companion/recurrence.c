/* The two loops over time, compiled: states forward (eq. 1) and targets backward (eq. 7, with eqs. 3 and 8).

   What is computed stands, line for line, in network.states and learners/lra.py; here it is fused, so that a run's matrices
   stay in a core's cache and a product costs what its arithmetic costs. Each run is computed on its own: its bits cannot depend
   on its neighbours. REAL is float or double. Sizes: T steps, R runs, B rows (batch), H units; arrays lie as in the Python code.

   Rows are padded with zeros to whole vectors. A padded unit has weights 0, so its state, its error and all else stay 0. */

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
void tanh_all(const REAL *x, REAL *y, long count) {
    for (long i = 0; i < count; i++) y[i] = tanh_one(x[i]);
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

static REAL norm(REAL sum_of_squares, const REAL *x, long count) {
    const REAL size = sizeof(REAL) == 4 ? sqrtf(sum_of_squares) : sqrt(sum_of_squares);
    if (!(size < SMALL)) return size;
    REAL sum = 0;
    for (long i = 0; i < count; i++) sum += (x[i] * MAGNIFIER) * (x[i] * MAGNIFIER);
    return (sizeof(REAL) == 4 ? sqrtf(sum) : sqrt(sum)) / MAGNIFIER;
}

/* ---- products -------------------------------------------------------------------------------------------------------- */

#define ROWS 5   /* rows of the left matrix, and */
#define COLUMNS 4 /* vectors of the right one, that one block of the product takes: their sums stay in registers */

/* A block of out = start + left W: `rows` rows, `columns` vectors, from a panel of W packed column block by column block. */
INLINE void block(int rows, int columns, const REAL *left, const vec *panel, const REAL *start, REAL *out, long depth,
                  long stride) {
    vec sum[ROWS][COLUMNS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) sum[i][j] = start ? ((const vec *)(start + i * stride))[j] : (vec){0};
    for (long k = 0; k < depth; k++) {
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++) sum[i][j] += left[i * stride + k] * panel[k * columns + j];
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) ((vec *)(out + i * stride))[j] = sum[i][j];
}

#define CASE(r, c)                                                       \
    case 10 * r + c:                                                     \
        block(r, c, left, panel, start, out, depth, stride);             \
        break;
#define CASES(r) CASE(r, 1) CASE(r, 2) CASE(r, 3) CASE(r, 4)

static void any_block(int rows, int columns, const REAL *left, const vec *panel, const REAL *start, REAL *out, long depth,
                      long stride) {
    switch (10 * rows + columns) {
        CASES(1)
        CASES(2)
        CASES(3)
        CASES(4)
        CASES(5)
    }
}

/* out = start + left W for (B, H) matrices of padded rows; start may be NULL. */
static void product(const REAL *left, const REAL *packed, const REAL *start, REAL *out, long batch, long hidden, long padded) {
    for (long first = 0; first < padded / WIDTH; first += COLUMNS) {
        const long left_over = padded / WIDTH - first;
        const int columns = left_over < COLUMNS ? left_over : COLUMNS;
        const vec *panel = (const vec *)(packed + first * WIDTH * hidden);
        for (long row = 0; row < batch; row += ROWS) {
            const int rows = batch - row < ROWS ? batch - row : ROWS;
            const long at = row * padded + first * WIDTH;
            any_block(rows, columns, left + row * padded, panel, start ? start + at : NULL, out + at, hidden, padded);
        }
    }
}

/* W (H, H), or its transpose, as `product` reads it. */
static void pack(const REAL *w, int transposed, REAL *packed, long hidden, long padded) {
    for (long first = 0; first < padded; first += COLUMNS * WIDTH) {
        const long end = first + COLUMNS * WIDTH < padded ? first + COLUMNS * WIDTH : padded;
        for (long k = 0; k < hidden; k++)
            for (long j = first; j < end; j++)
                *packed++ = j >= hidden ? 0 : transposed ? w[j * hidden + k] : w[k * hidden + j];
    }
}

static void load(const REAL *rows, REAL *padded_rows, long batch, long hidden, long padded) {
    for (long b = 0; b < batch; b++) memcpy(padded_rows + b * padded, rows + b * hidden, hidden * sizeof(REAL));
}

static void store(const REAL *padded_rows, REAL *rows, long batch, long hidden, long padded) {
    for (long b = 0; b < batch; b++) memcpy(rows + b * hidden, padded_rows + b * padded, hidden * sizeof(REAL));
}

/* `count` zeroed arrays of `size` numbers. The caller frees them. */
static REAL *arrays(long count, long size) {
    REAL *memory = NULL;
    if (posix_memalign((void **)&memory, BYTES, count * size * sizeof(REAL))) return NULL;
    memset(memory, 0, count * size * sizeof(REAL));
    return memory;
}

static long padded_size(long hidden) { return (hidden + WIDTH - 1) / WIDTH * WIDTH; }

int vector_bytes(void) { return BYTES; }

/* (1)  driven (T, R, B, H) -> h (T, R, B, H), z (T + 1, R, B, H) with z[0] given. Where h is NULL, z is one state (R, B, H), the
   first and then the last. Returns 0, or 1 where memory is lacking. */
int states(const REAL *driven, const REAL *w_hh, REAL *h, REAL *z, long steps, long runs, long batch, long hidden) {
    const long padded = padded_size(hidden), size = batch * padded, step = batch * hidden;
    REAL *memory = arrays(2, size), *packed = arrays(1, hidden * padded);
    if (!memory || !packed) return free(memory), free(packed), 1;
    REAL *state = memory, *sum = memory + size;
    for (long r = 0; r < runs; r++) {
        pack(w_hh + r * hidden * hidden, 0, packed, hidden, padded);
        load(z + r * step, state, batch, hidden, padded);
        for (long t = 0; t < steps; t++) {
            const long at = (t * runs + r) * step;
            load(driven + at, sum, batch, hidden, padded);
            product(state, packed, sum, sum, batch, hidden, padded);
            if (h) store(sum, h + at, batch, hidden, padded);
            tanh_all(sum, state, size);
            if (h) store(state, z + at + runs * step, batch, hidden, padded);
        }
        if (!h) store(state, z + r * step, batch, hidden, padded);
    }
    free(memory), free(packed);
    return 0;
}

/* ---- targets --------------------------------------------------------------------------------------------------------- */

/* One run's settings, a row of the array that `targets` takes. */
typedef struct {
    REAL beta, alpha;     /* target step size; strength of Ω on targets */
    REAL scale;           /* of g^k: the reduction's */
    REAL clip, cap;       /* stability.Clipping: a step of norm n is multiplied by min(clip / n, cap) */
    REAL per_example;     /* 1: Ω in scope "example"; 0: "batch" */
} setting;

/* One run's working arrays, (B, H) with padded rows, and (B,). */
typedef struct {
    REAL *u, *state, *prediction, *target, *driven, *error, *lower, *error_norm, *lower_norm, *push;
} work;

/* (7)  e^k = loss'(p^k - zhat_t) (1 - (p^k)^2), and |e^k| of each example where Ω asks for it. */
INLINE void errors(enum loss loss, const work *w, int norms, long batch, long padded) {
    for (long b = 0; b < batch; b++) {
        const REAL *p = w->prediction + b * padded, *zhat = w->target + b * padded;
        REAL *e = w->error + b * padded;
        for (long j = 0; j < padded; j++) e[j] = derivative(loss, p[j] - zhat[j]) * (1 - p[j] * p[j]);
        if (!norms) continue;
        squares sum = {{0}};
        for (long j = 0; j < padded; j += WIDTH)
            for (long l = 0; l < WIDTH; l++) sum.lanes[l] += e[j + l] * e[j + l];
        w->error_norm[b] = norm(total(&sum), e, padded);
    }
}

static void any_errors(int loss, const work *w, int norms, long batch, long padded) {
    switch (loss) {
        case MSE:
            errors(MSE, w, norms, batch, padded);
            break;
        case LOG_PENALTY:
            errors(LOG_PENALTY, w, norms, batch, padded);
            break;
        case HUBER:
            errors(HUBER, w, norms, batch, padded);
            break;
        default:
            errors(L1, w, norms, batch, padded);
    }
}

/* lower = s phi', and its norm of each example. */
static void scale_by_slope(const work *w, int norms, long batch, long padded) {
    for (long b = 0; b < batch; b++) {
        const REAL *a = w->state + b * padded;
        REAL *lower = w->lower + b * padded;
        squares sum = {{0}};
        for (long j = 0; j < padded; j += WIDTH)
            for (long l = 0; l < WIDTH; l++) {
                lower[j + l] *= 1 - a[j + l] * a[j + l];
                sum.lanes[l] += lower[j + l] * lower[j + l];
            }
        if (norms) w->lower_norm[b] = norm(total(&sum), lower, padded);
    }
}

/* (8)  alpha dΩ/du = push_b unit^2 tanh(u), unit = lower / lower_norm_b. */
static void regulariser(const work *w, const setting *s, long batch) {
    if (s->per_example == 0) {
        REAL error = 0, lower = 0;
        for (long b = 0; b < batch; b++) error += w->error_norm[b] * w->error_norm[b];
        for (long b = 0; b < batch; b++) lower += w->lower_norm[b] * w->lower_norm[b];
        error = norm(error, w->error_norm, batch), lower = norm(lower, w->lower_norm, batch);
        for (long b = 0; b < batch; b++) w->error_norm[b] = error, w->lower_norm[b] = lower;
    }
    for (long b = 0; b < batch; b++) {
        const REAL error = w->error_norm[b] < TINY ? TINY : w->error_norm[b];
        const REAL lower = w->lower_norm[b] < TINY ? TINY : w->lower_norm[b];
        const int defined = !(w->error_norm[b] < TINY) && !(w->lower_norm[b] < TINY);
        const REAL ratio = lower / error, excess = defined ? ratio - 1 : 0;
        w->lower_norm[b] = lower;
        w->push[b] = s->alpha * -4 * (s->per_example == 0 ? excess : excess / batch) * ratio;
    }
}

/* (7)  g^k + alpha dΩ/du into `lower`; returns its norm. */
static REAL gradient(const work *w, const setting *s, int regularised, long batch, long padded) {
    squares sum = {{0}};
    for (long b = 0; b < batch; b++) {
        REAL *lower = w->lower + b * padded;
        const REAL *a = w->state + b * padded;
        if (regularised) {
            const REAL push = w->push[b], inverse = 1 / w->lower_norm[b];
            for (long j = 0; j < padded; j += WIDTH)
                for (long l = 0; l < WIDTH; l++) {
                    const REAL unit = lower[j + l] * inverse, g = lower[j + l] * s->scale + push * (unit * unit) * a[j + l];
                    lower[j + l] = g;
                    sum.lanes[l] += g * g;
                }
        } else {
            for (long j = 0; j < padded; j += WIDTH)
                for (long l = 0; l < WIDTH; l++) {
                    const REAL g = lower[j + l] * s->scale;
                    lower[j + l] = g;
                    sum.lanes[l] += g * g;
                }
        }
    }
    return norm(total(&sum), w->lower, batch * padded);
}

/* (3)  What N_c multiplies a step of this norm with. */
static REAL clipping(const setting *s, REAL size, REAL *rescaled) {
    const REAL wanted = s->clip / size, factor = wanted > s->cap ? s->cap : wanted;
    if (factor != 1 && size > 0) *rescaled += 1;
    return factor;
}

/* (7)  zhat_{t-1} for t = T..2, and what eq. 6 needs of each step.

   h (T, R, B, H), z (T + 1, R, B, H), driven (T, R, B, H), w_hh (R, H, H), settings (R,). target (T, R, B, H), of which the last
   step is given. error (R, T, B, H): d_t before its reduction. pulled (R, T, B, H), or NULL without Ω: d_t W_hh^T, 0 at t = 1.
   rescaled (R,): how many target steps eq. 3 changed is added. Returns 0, or 1 where memory is lacking. */
int targets(const REAL *h, const REAL *z, const REAL *driven, const REAL *w_hh, const setting *settings, REAL *target,
            REAL *error, REAL *pulled, REAL *rescaled, long steps, long runs, long batch, long hidden, long inner_steps,
            int loss, int clips) {
    const long padded = padded_size(hidden), size = batch * padded, step = batch * hidden;
    REAL *memory = arrays(7, size), *vectors = arrays(3, batch), *packed = arrays(2, hidden * padded);
    if (!memory || !vectors || !packed) return free(memory), free(vectors), free(packed), 1;
    REAL *transposed = packed + hidden * padded;
    const work w = {memory,
                    memory + size,
                    memory + 2 * size,
                    memory + 3 * size,
                    memory + 4 * size,
                    memory + 5 * size,
                    memory + 6 * size,
                    vectors,
                    vectors + batch,
                    vectors + 2 * batch};
    for (long r = 0; r < runs; r++) {
        const setting *s = settings + r;
        const int regularised = pulled && s->alpha != 0;
        pack(w_hh + r * hidden * hidden, 0, packed, hidden, padded);
        pack(w_hh + r * hidden * hidden, 1, transposed, hidden, padded);
        load(target + ((steps - 1) * runs + r) * step, w.target, batch, hidden, padded);
        for (long t = steps; t >= 1; t--) { /* as in the paper: h_t is h[t - 1], z_t is z[t] */
            const long here = ((t - 1) * runs + r) * step, below = here - runs * step, stacked = (r * steps + t - 1) * step;
            load(z + here + runs * step, w.prediction, batch, hidden, padded); /* p^0 = z_t */
            any_errors(loss, &w, regularised, batch, padded);
            store(w.error, error + stacked, batch, hidden, padded);
            if (t == 1) break;
            load(h + below, w.u, batch, hidden, padded);
            load(z + here, w.state, batch, hidden, padded); /* z_{t-1} */
            load(driven + here, w.driven, batch, hidden, padded);
            for (long k = 0; k < inner_steps; k++) {
                if (k > 0) {
                    product(w.state, packed, w.driven, w.prediction, batch, hidden, padded);
                    tanh_all(w.prediction, w.prediction, size);
                    any_errors(loss, &w, regularised, batch, padded);
                }
                product(w.error, transposed, NULL, w.lower, batch, hidden, padded); /* s, which eqs. 7 and 8 share */
                if (k == 0 && pulled) store(w.lower, pulled + stacked, batch, hidden, padded);
                scale_by_slope(&w, regularised, batch, padded);
                if (regularised) regulariser(&w, s, batch);
                const REAL length = gradient(&w, s, regularised, batch, padded);
                const REAL factor = clips ? clipping(s, length, rescaled + r) : 1;
                for (long i = 0; i < size; i++) {
                    w.u[i] -= s->beta * (factor * w.lower[i]); /* the factor may be huge where the step is 0 */
                    w.state[i] = tanh_one(w.u[i]);
                }
            }
            memcpy(w.target, w.state, size * sizeof(REAL)); /* zhat_{t-1} */
            store(w.target, target + below, batch, hidden, padded);
        }
    }
    free(memory), free(vectors), free(packed);
    return 0;
}
