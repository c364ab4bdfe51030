/* The two loops over time, compiled: states forward (eq. 1) and targets backward (eq. 7, with eqs. 3 and 8).

   What is computed stands, line for line, in network.states and learners/lra.py; here it is fused, so that a run's matrices
   stay in a core's cache and a product costs what its arithmetic costs. Each run is computed on its own: its bits cannot depend
   on its neighbours. REAL is float or double. Sizes: T steps, R runs, B rows (batch), H units; arrays lie as in the Python code.

   Rows are padded with zeros to whole vectors. A padded unit has weights 0, so its state, its error and all else stay 0. */

#include "vectors.h"
#include "products.h"

int vector_bytes(void) { return BYTES; }

/* (1)  h (T, R, B, H) and z (T + 1, R, B, H), z[0] being given, from driven (T, R, B, H). Returns 0, or 1 where memory is
   lacking. */
int states(const REAL *driven, const REAL *w_hh, REAL *h, REAL *z, long steps, long runs, long batch, long hidden) {
    const long padded = padded_size(hidden), size = batch * padded, step = batch * hidden;
    REAL *memory = arrays(2 * size + hidden * padded);
    if (!memory) return 1;
    REAL *state = memory, *sum = memory + size;
    const matrix w = {memory + 2 * size, hidden, padded};
    for (long r = 0; r < runs; r++) {
        pack(w_hh + r * hidden * hidden, hidden, 1, w, hidden);
        load(z + r * step, state, batch, hidden, padded);
        for (long t = 0; t < steps; t++) {
            const long at = (t * runs + r) * step;
            load(driven + at, sum, batch, hidden, padded);
            product(state, padded, w, sum, sum, batch);
            store(sum, h + at, batch, hidden, padded);
            tanh_all(sum, state, size);
            store(state, z + at + runs * step, batch, hidden, padded);
        }
    }
    free(memory);
    return 0;
}

/* (1)  z_T (R, B, H) alone, of symbols (T, R, B) that look up their rows x W_xh + b_h in rows (R, I, H). Returns 0, or 1 where
   memory is lacking. */
int last_state(const long long *symbols, const REAL *rows, const REAL *w_hh, REAL *z, long steps, long runs, long batch,
               long hidden, long inputs) {
    const long padded = padded_size(hidden), size = batch * padded;
    REAL *memory = arrays(2 * size + (hidden + inputs) * padded);
    if (!memory) return 1;
    REAL *state = memory, *sum = memory + size, *table = memory + 2 * size;
    const matrix w = {table + inputs * padded, hidden, padded};
    for (long r = 0; r < runs; r++) {
        pack(w_hh + r * hidden * hidden, hidden, 1, w, hidden);
        load(rows + r * inputs * hidden, table, inputs, hidden, padded);
        memset(state, 0, size * sizeof(REAL));
        for (long t = 0; t < steps; t++) {
            const long long *shown = symbols + (t * runs + r) * batch;
            for (long b = 0; b < batch; b++) memcpy(sum + b * padded, table + shown[b] * padded, padded * sizeof(REAL));
            product(state, padded, w, sum, sum, batch);
            tanh_all(sum, state, size);
        }
        store(state, z + r * batch * hidden, batch, hidden, padded);
    }
    free(memory);
    return 0;
}

/* (2)  o = z W_hy + b_y: (R, B, O) of state (R, B, H). Returns 0, or 1 where memory is lacking. */
int readout(const REAL *state, const REAL *w_hy, const REAL *b_y, REAL *o, long runs, long batch, long hidden, long outputs) {
    const long wide = padded_size(outputs);
    REAL *memory = arrays((batch + hidden) * wide), *result = memory;
    if (!memory) return 1;
    const matrix w = {result + batch * wide, hidden, wide};
    for (long r = 0; r < runs; r++) {
        pack(w_hy + r * hidden * outputs, outputs, 1, w, outputs);
        for (long b = 0; b < batch; b++) memcpy(result + b * wide, b_y + r * outputs, outputs * sizeof(REAL));
        product(state + r * batch * hidden, hidden, w, result, result, batch);
        store(result, o + r * batch * outputs, batch, outputs, wide);
    }
    free(memory);
    return 0;
}

/* ---- targets --------------------------------------------------------------------------------------------------------- */

/* One run's settings, a row of the array that `targets` takes. */
typedef struct {
    REAL beta;                             /* target step size */
    REAL alpha, alpha_weights, alpha_input; /* strength of Ω on target steps, on dW_hh and on dW_xh */
    REAL loss_scale, target_scale;         /* the reduction's: of l_t, and of the gradient in a target step */
    REAL clip, cap;                        /* stability.Clipping: a step of norm n is multiplied by min(clip / n, cap) */
    REAL weight_clip, weight_cap;          /* the same for one step's weight gradients */
    REAL per_example;                      /* 1: Ω in scope "example"; 0: "batch" */
} setting;

/* What one target step works on: (B, H) with padded rows, and (B,). */
typedef struct {
    long batch, padded;
    REAL *u, *state, *lower;
    REAL *error_norm, *lower_norm, *excess, *ratio;
} work;

/* The norm of each row. */
static void norms(const REAL *rows, long batch, long padded, REAL *size) {
    for (long b = 0; b < batch; b++) {
        const REAL *x = rows + b * padded;
        squares sum = {{0}};
        for (long j = 0; j < padded; j += WIDTH)
            for (long l = 0; l < WIDTH; l++) sum.lanes[l] += x[j + l] * x[j + l];
        size[b] = norm(total(&sum), x, padded);
    }
}

/* (7)  e = loss'(p - zhat) (1 - p^2), before its reduction: Ω does not feel a scale of d. */
INLINE void errors(enum loss loss, const REAL *prediction, const REAL *target, REAL *error, long size) {
    for (long i = 0; i < size; i++)
        error[i] = derivative(loss, prediction[i] - target[i]) * (1 - prediction[i] * prediction[i]);
}

static void any_errors(long loss, const REAL *prediction, const REAL *target, REAL *error, long size) {
    switch (loss) {
        case MSE:
            errors(MSE, prediction, target, error, size);
            break;
        case LOG_PENALTY:
            errors(LOG_PENALTY, prediction, target, error, size);
            break;
        case HUBER:
            errors(HUBER, prediction, target, error, size);
            break;
        default:
            errors(L1, prediction, target, error, size);
    }
}

/* dL/do of the outputs, in place: softmax cross-entropy where classes are given, else squared error. */
static void output_errors(REAL *outputs, const long long *classes, const REAL *values, long batch, long units, long padded) {
    for (long b = 0; b < batch; b++) {
        REAL *o = outputs + b * padded;
        if (values) {
            for (long j = 0; j < units; j++) o[j] = (o[j] - values[b * units + j]) * (2 / (REAL)(batch * units));
            continue;
        }
        REAL highest = o[0], sum = 0;
        for (long j = 1; j < units; j++) highest = o[j] > highest ? o[j] : highest;
        for (long j = 0; j < units; j++) {
            o[j] = sizeof(REAL) == 4 ? expf(o[j] - highest) : exp(o[j] - highest);
            sum += o[j];
        }
        for (long j = 0; j < units; j++) o[j] = (o[j] / sum - (j == classes[b])) / batch;
    }
}

/* lower = s phi'. */
static void pull_through(const work *w) {
    for (long i = 0; i < w->batch * w->padded; i++) w->lower[i] *= 1 - w->state[i] * w->state[i];
}

/* (8)  r and r - 1 of each example from the norms of d and of lower; in scope "batch" all are the same. */
static void regulariser(const work *w, const setting *s) {
    norms(w->lower, w->batch, w->padded, w->lower_norm);
    if (s->per_example == 0) {
        REAL error = 0, lower = 0;
        for (long b = 0; b < w->batch; b++) error += w->error_norm[b] * w->error_norm[b];
        for (long b = 0; b < w->batch; b++) lower += w->lower_norm[b] * w->lower_norm[b];
        error = norm(error, w->error_norm, w->batch), lower = norm(lower, w->lower_norm, w->batch);
        for (long b = 0; b < w->batch; b++) w->error_norm[b] = error, w->lower_norm[b] = lower;
    }
    for (long b = 0; b < w->batch; b++) {
        const int defined = !(w->error_norm[b] < TINY) && !(w->lower_norm[b] < TINY);
        if (w->error_norm[b] < TINY) w->error_norm[b] = TINY;
        if (w->lower_norm[b] < TINY) w->lower_norm[b] = TINY;
        w->ratio[b] = w->lower_norm[b] / w->error_norm[b];
        w->excess[b] = defined ? w->ratio[b] - 1 : 0;
    }
}

/* What r - 1 of one example counts in Ω. */
static REAL share(const work *w, const setting *s) { return s->per_example == 0 ? 1 : 1 / (REAL)w->batch; }

/* (4, 7)  g + alpha dΩ/du into `lower`, g being scale times what it holds; returns its norm. */
static REAL gradient(const work *w, const setting *s, REAL scale, int regularised) {
    squares sum = {{0}};
    for (long b = 0; b < w->batch; b++) {
        REAL *lower = w->lower + b * w->padded;
        const REAL *a = w->state + b * w->padded;
        const REAL push = regularised ? s->alpha * -4 * (w->excess[b] * share(w, s)) * w->ratio[b] : 0;
        const REAL inverse = regularised ? 1 / w->lower_norm[b] : 0;
        for (long j = 0; j < w->padded; j += WIDTH)
            for (long l = 0; l < WIDTH; l++) {
                const REAL unit = lower[j + l] * inverse, g = lower[j + l] * scale + push * (unit * unit) * a[j + l];
                lower[j + l] = g;
                sum.lanes[l] += g * g;
            }
    }
    return norm(total(&sum), w->lower, w->batch * w->padded);
}

/* (3)  What N_c multiplies a gradient of this norm with. */
INLINE REAL clipping(REAL clip, REAL cap, REAL size) {
    return !(size != 0) ? 1 : clip / size > cap ? cap : clip / size;
}

/* (4, 7)  u <- u - beta N_c(g + alpha dΩ/du), and the state it leads to. `lower` holds g before its scale. */
static void descend(const work *w, const setting *s, REAL scale, int regularised, int clips, REAL *rescaled) {
    const REAL size = gradient(w, s, scale, regularised);
    REAL factor = 1;
    if (clips) {
        factor = clipping(s->clip, s->cap, size);
        if (factor != 1) *rescaled += 1;
    }
    for (long i = 0; i < w->batch * w->padded; i++) {
        w->u[i] -= s->beta * (factor * w->lower[i]);
        w->state[i] = tanh_one(w->u[i]);
    }
}

/* Rows at the two ends of a weight matrix, whose gradient is lower^T upper. In place of the lower ones may stand symbols, of
   which equal ones share a row. */
typedef struct {
    const REAL *lower, *upper;
    const long long *symbols;
    long batch, lower_padded, upper_padded;
} ends;

/* The norm of all rows, which are divided by it, so that no square underflows. Rows of zeros stay as they are. */
static REAL make_unit(const REAL *rows, REAL *unit, long size) {
    squares sum = {{0}};
    for (long i = 0; i < size; i += WIDTH)
        for (long l = 0; l < WIDTH; l++) sum.lanes[l] += rows[i + l] * rows[i + l];
    const REAL length = norm(total(&sum), rows, size);
    for (long i = 0; i < size; i++) unit[i] = length > 0 ? rows[i] / length : rows[i];
    return length;
}

INLINE REAL dot(const REAL *x, const REAL *y, long padded) {
    squares sum = {{0}};
    for (long j = 0; j < padded; j += WIDTH)
        for (long l = 0; l < WIDTH; l++) sum.lanes[l] += x[j + l] * y[j + l];
    return total(&sum);
}

/* |lower^T upper|_F. Its square is sum((lower lower^T) * (upper upper^T)): learners/base.py, product_norms. scratch: room for both. */
static REAL product_norm(ends g, REAL *scratch) {
    REAL *above = scratch, *below = scratch + g.batch * g.upper_padded, sum = 0;
    const REAL upper = make_unit(g.upper, above, g.batch * g.upper_padded);
    const REAL lower = g.symbols ? 1 : make_unit(g.lower, below, g.batch * g.lower_padded);
    for (long b = 0; b < g.batch; b++)
        for (long c = 0; c <= b; c++) {
            if (g.symbols && g.symbols[b] != g.symbols[c]) continue;
            REAL both = dot(above + b * g.upper_padded, above + c * g.upper_padded, g.upper_padded);
            if (!g.symbols) both *= dot(below + b * g.lower_padded, below + c * g.lower_padded, g.lower_padded);
            sum += b == c ? both : 2 * both;
        }
    return lower * upper * root(sum < 0 ? 0 : sum); /* rounding may leave less than 0 */
}

/* What eq. 6 has of step t. Results: lower, upper and input_upper (B, H), lower being NULL where it is z_{t-1}; b_h (H,), to
   which is added; omega, which may be NULL, and the norms before clipping, one number each. */
typedef struct {
    REAL *lower, *upper, *input_upper, *b_h, *omega, *recurrent_norm, *input_norm;
    const long long *symbols; /* x_t: (B,), or NULL and then */
    const REAL *values;       /* (B, I) */
    long inputs;
} gradients;

/* (6)  The weight gradients of step t, clipped, as dW_hh^t = lower^T upper and dW_xh^t = x_t^T input_upper: from the error, from
   carried, which is alpha dΩ_{t+1}/dh_t and here becomes alpha dΩ_t/dh_{t-1}, and where `regularised` from w->lower with its norms.
   Ω's share in lower and upper is explained in learners/lra.py, _add_omega. scratch: room for six (B, H) and two (B, I). */
static void weight_gradients(const work *w, const setting *s, const REAL *error, REAL *carried, int regularised, int clips,
                             gradients g, long hidden, REAL *scratch) {
    const long size = w->batch * w->padded, wide = padded_size(g.inputs);
    REAL *lower = scratch, *upper = lower + size, *values = upper + size, *rest = values + (g.values ? w->batch * wide : 0);
    for (long i = 0; i < size; i++) upper[i] = error[i] * s->loss_scale; /* d_t */
    for (long b = 0; b < w->batch; b++)
        for (long j = 0; j < hidden; j++) g.b_h[j] += upper[b * w->padded + j];

    for (long i = 0; i < size; i++) lower[i] = upper[i] + carried[i];
    if (g.values) load(g.values, values, w->batch, g.inputs, wide);
    *g.input_norm = product_norm((ends){values, lower, g.symbols, w->batch, wide, w->padded}, rest);
    store_scaled(lower, clips ? clipping(s->weight_clip, s->weight_cap, *g.input_norm) : 1, g.input_upper, w->batch, hidden,
                 w->padded);

    memcpy(lower, w->state, size * sizeof(REAL));
    REAL omega = 0;
    for (long b = 0; regularised && b < w->batch; b++) {
        const long row = b * w->padded;
        const REAL *a = w->state + row, *below = w->lower + row, error_norm = w->error_norm[b], lower_norm = w->lower_norm[b];
        omega += w->excess[b] * w->excess[b] / w->batch;
        const REAL of_unit = 2 * (w->excess[b] * share(w, s)), push = s->alpha_input * -2 * of_unit * w->ratio[b];
        for (long j = 0; j < w->padded; j++) carried[row + j] = push * (below[j] / lower_norm) * (below[j] / lower_norm) * a[j];
        if (s->alpha_weights == 0) continue;
        const REAL of_state = error_norm * s->loss_scale;
        for (long j = 0; j < w->padded; j++) {
            lower[row + j] = a[j] * of_state + s->alpha_weights * of_unit * (below[j] / lower_norm) * (1 - a[j] * a[j]);
            upper[row + j] = error[row + j] / error_norm;
        }
    }
    if (g.omega) *g.omega = omega;
    *g.recurrent_norm = product_norm((ends){lower, upper, NULL, w->batch, w->padded, w->padded}, rest);
    if (g.lower) store(lower, g.lower, w->batch, hidden, w->padded);
    store_scaled(upper, clips ? clipping(s->weight_clip, s->weight_cap, *g.recurrent_norm) : 1, g.upper, w->batch, hidden,
                 w->padded);
}

/* All targets zhat_T..zhat_1 (eqs. 4 and 7), and what eq. 6 needs of each step.

   h, driven (T, R, B, H), z (T + 1, R, B, H); w_hh (R, H, H), w_hy (R, H, O), b_y (R, O); symbols (T, R, B), or values
   (T, R, B, I); classes (R, B), or wanted (R, B, O), of both pairs one is NULL; settings (R,). Results: target (T, R, B, H);
   lower, which may be NULL, upper and input_upper (R, T, B, H), b_h (R, H), omega, which may be NULL, recurrent_norm and
   input_norm (T, R), see `weight_gradients`; rescaled (R,): how many target steps eq. 3 changed. b_h and rescaled are added to.
   Ω acts where `lower` is asked for, and is measured where `omega` is. Returns 0, or 1 where memory is lacking. */
int targets(const REAL *h, const REAL *z, const REAL *driven, const REAL *w_hh, const REAL *w_hy, const REAL *b_y,
            const long long *symbols, const REAL *values, const long long *classes, const REAL *wanted, const setting *settings,
            REAL *target, REAL *lower, REAL *upper, REAL *input_upper, REAL *b_h, REAL *omega, REAL *recurrent_norm,
            REAL *input_norm, REAL *rescaled, long steps, long runs, long batch, long inputs, long hidden, long outputs,
            long inner_steps, long loss, long clips_targets, long clips_weights) {
    const long padded = padded_size(hidden), wide = padded_size(outputs), step = batch * hidden, size = batch * padded;
    const int regularised = lower || omega;
    REAL *memory = arrays(14 * size + 2 * batch * (wide + padded_size(inputs)) + 2 * hidden * padded + hidden * wide +
                          outputs * padded + 4 * padded_size(batch));
    if (!memory) return 1;
    REAL *at = memory, *prediction = take(&at, size), *zhat = take(&at, size), *input = take(&at, size);
    REAL *e = take(&at, size), *carried = take(&at, size), *e_top = take(&at, batch * wide), *bias = take(&at, batch * wide);
    const matrix forth = {take(&at, hidden * padded), hidden, padded}, back = {take(&at, hidden * padded), hidden, padded};
    const matrix out = {take(&at, hidden * wide), hidden, wide}, out_back = {take(&at, outputs * padded), outputs, padded};
    work w = {batch, padded, take(&at, size), take(&at, size), take(&at, size), NULL, NULL, NULL, NULL};
    w.error_norm = take(&at, batch), w.lower_norm = take(&at, batch), w.excess = take(&at, batch), w.ratio = take(&at, batch);
    REAL *scratch = at;

    for (long r = 0; r < runs; r++) {
        const setting *s = settings + r;
        const REAL *of_run = w_hh + r * hidden * hidden, *of_readout = w_hy + r * hidden * outputs;
        pack(of_run, hidden, 1, forth, hidden);
        pack(of_run, 1, hidden, back, hidden);
        pack(of_readout, outputs, 1, out, outputs);
        pack(of_readout, 1, outputs, out_back, hidden);
        for (long b = 0; b < batch; b++) memcpy(bias + b * wide, b_y + r * outputs, outputs * sizeof(REAL));

        memset(carried, 0, size * sizeof(REAL));

        const long last = ((steps - 1) * runs + r) * step;
        load(h + last, w.u, batch, hidden, padded);
        load(z + last + runs * step, w.state, batch, hidden, padded);
        for (long k = 0; k < inner_steps; k++) { /* (4) */
            product(w.state, padded, out, bias, e_top, batch); /* (2) */
            output_errors(e_top, classes ? classes + r * batch : NULL, wanted ? wanted + r * batch * outputs : NULL, batch,
                          outputs, wide);
            product(e_top, wide, out_back, NULL, w.lower, batch);
            pull_through(&w);
            if (regularised) norms(e_top, batch, wide, w.error_norm), regulariser(&w, s);
            descend(&w, s, s->target_scale, regularised, clips_targets, rescaled + r);
        }

        for (long t = steps;; t--) { /* as in the paper: h_t is h[t - 1], z_t is z[t] */
            const long here = ((t - 1) * runs + r) * step, below = here - runs * step, stacked = (r * steps + t - 1) * step;
            const long number = (t - 1) * runs + r;
            const gradients g = {lower ? lower + stacked : NULL,
                                 upper + stacked,
                                 input_upper + stacked,
                                 b_h + r * hidden,
                                 omega ? omega + number : NULL,
                                 recurrent_norm + number,
                                 input_norm + number,
                                 symbols ? symbols + number * batch : NULL,
                                 values ? values + number * batch * inputs : NULL,
                                 inputs};
            memcpy(zhat, w.state, size * sizeof(REAL));
            store(zhat, target + here, batch, hidden, padded);
            load(z + here + runs * step, prediction, batch, hidden, padded); /* (7) starts on the trajectory: p^0 = z_t */
            load(z + here, w.state, batch, hidden, padded);
            any_errors(loss, prediction, zhat, e, size);
            if (t == 1) { /* below is no state to move, and no Ω */
                weight_gradients(&w, s, e, carried, 0, clips_weights, g, hidden, scratch);
                break;
            }
            load(h + below, w.u, batch, hidden, padded);
            load(driven + here, input, batch, hidden, padded);
            for (long k = 0; k < inner_steps; k++) { /* (7) */
                if (k > 0) {
                    product(w.state, padded, forth, input, prediction, batch);
                    tanh_all(prediction, prediction, size);
                    any_errors(loss, prediction, zhat, e, size);
                }
                product(e, padded, back, NULL, w.lower, batch); /* s, which eqs. 7 and 8 share */
                pull_through(&w);
                if (regularised) norms(e, batch, padded, w.error_norm), regulariser(&w, s);
                if (k == 0) weight_gradients(&w, s, e, carried, regularised, clips_weights, g, hidden, scratch);
                descend(&w, s, s->loss_scale * s->target_scale, regularised, clips_targets, rescaled + r);
            }
        }
    }
    free(memory);
    return 0;
}
