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

/* (4, 7)  u <- u - beta N_c(g + alpha dΩ/du), and the state it leads to. `lower` holds g before its scale. */
static void descend(const work *w, const setting *s, REAL scale, int regularised, int clips, REAL *rescaled) {
    const REAL size = gradient(w, s, scale, regularised);
    REAL factor = 1;
    if (clips) { /* (3) */
        factor = s->clip / size > s->cap ? s->cap : s->clip / size;
        if (factor != 1 && size > 0) *rescaled += 1;
    }
    for (long i = 0; i < w->batch * w->padded; i++) {
        w->u[i] -= s->beta * (factor * w->lower[i]); /* the factor may be huge where the step is 0 */
        w->state[i] = tanh_one(w->u[i]);
    }
}

/* Where the results of one run's step t go, (B, H); NULL: not wanted. */
typedef struct {
    REAL *error, *lower, *upper, *input_omega, *omega;
} results;

/* (6)  d_t; lower_t and upper_t, of which dW_hh^t = z_{t-1}^T d_t + alpha dΩ_t/dW_hh is the product lower_t^T upper_t (see
   LRA._recurrent_factors); alpha dΩ_t/dh_{t-1}; Ω_t. From the error, and from the norms of Ω where `regularised`. */
static void keep(const work *w, const setting *s, const REAL *error, int regularised, results out, long hidden) {
    if (out.omega) *out.omega = 0;
    for (long b = 0; b < w->batch; b++) {
        const REAL *e = error + b * w->padded, *a = w->state + b * w->padded, *below = w->lower + b * w->padded;
        for (long j = 0; j < hidden; j++) out.error[b * hidden + j] = e[j] * s->loss_scale;
        if (out.omega && regularised) *out.omega += w->excess[b] * w->excess[b] / w->batch;
        if (!out.lower) continue;
        REAL *lower = out.lower + b * hidden, *upper = out.upper + b * hidden;
        if (regularised && s->alpha_weights != 0) {
            const REAL size = w->error_norm[b], of_state = size * s->loss_scale;
            const REAL of_unit = s->alpha_weights * 2 * (w->excess[b] * share(w, s)) / w->lower_norm[b];
            for (long j = 0; j < hidden; j++) {
                lower[j] = a[j] * of_state + of_unit * below[j] * (1 - a[j] * a[j]);
                upper[j] = e[j] / size;
            }
        } else {
            memcpy(lower, a, hidden * sizeof(REAL));
            memcpy(upper, out.error + b * hidden, hidden * sizeof(REAL));
        }
        if (out.input_omega && regularised) {
            const REAL push = s->alpha_input * -4 * (w->excess[b] * share(w, s)) * w->ratio[b];
            for (long j = 0; j < hidden; j++) {
                const REAL unit = below[j] / w->lower_norm[b];
                out.input_omega[b * hidden + j] = push * (unit * unit) * a[j];
            }
        }
    }
}

/* All targets zhat_T..zhat_1 (eqs. 4 and 7), and what eq. 6 needs of each step.

   h, driven (T, R, B, H), z (T + 1, R, B, H); w_hh (R, H, H), w_hy (R, H, O), b_y (R, O); classes (R, B), or values (R, B, O),
   the other being NULL; settings (R,). Results: target (T, R, B, H); error, and with Ω lower, upper and input_omega
   (R, T, B, H), see `keep`; omega (T, R), if wanted; rescaled (R,): how many target steps eq. 3 changed is added.
   Returns 0, or 1 where memory is lacking. */
int targets(const REAL *h, const REAL *z, const REAL *driven, const REAL *w_hh, const REAL *w_hy, const REAL *b_y,
            const long long *classes, const REAL *values, const setting *settings, REAL *target, REAL *error, REAL *lower,
            REAL *upper, REAL *input_omega, REAL *omega, REAL *rescaled, long steps, long runs, long batch, long hidden,
            long outputs, long inner_steps, long loss, long clips) {
    const long padded = padded_size(hidden), wide = padded_size(outputs), step = batch * hidden, size = batch * padded;
    const int regularised = lower || omega;
    REAL *memory = arrays(7 * size + 2 * batch * wide + 2 * hidden * padded + hidden * wide + outputs * padded +
                          4 * padded_size(batch));
    if (!memory) return 1;
    REAL *at = memory, *prediction = take(&at, size), *zhat = take(&at, size), *input = take(&at, size);
    REAL *e = take(&at, size), *e_top = take(&at, batch * wide), *bias = take(&at, batch * wide);
    const matrix forth = {take(&at, hidden * padded), hidden, padded}, back = {take(&at, hidden * padded), hidden, padded};
    const matrix out = {take(&at, hidden * wide), hidden, wide}, out_back = {take(&at, outputs * padded), outputs, padded};
    work w = {batch, padded, take(&at, size), take(&at, size), take(&at, size), NULL, NULL, NULL, NULL};
    w.error_norm = take(&at, batch), w.lower_norm = take(&at, batch), w.excess = take(&at, batch), w.ratio = take(&at, batch);

    for (long r = 0; r < runs; r++) {
        const setting *s = settings + r;
        const REAL *of_run = w_hh + r * hidden * hidden, *of_readout = w_hy + r * hidden * outputs;
        pack(of_run, hidden, 1, forth, hidden);
        pack(of_run, 1, hidden, back, hidden);
        pack(of_readout, outputs, 1, out, outputs);
        pack(of_readout, 1, outputs, out_back, hidden);
        for (long b = 0; b < batch; b++) memcpy(bias + b * wide, b_y + r * outputs, outputs * sizeof(REAL));

        const long last = ((steps - 1) * runs + r) * step;
        load(h + last, w.u, batch, hidden, padded);
        load(z + last + runs * step, w.state, batch, hidden, padded);
        for (long k = 0; k < inner_steps; k++) { /* (4) */
            product(w.state, padded, out, bias, e_top, batch); /* (2) */
            output_errors(e_top, classes ? classes + r * batch : NULL, values ? values + r * batch * outputs : NULL, batch,
                          outputs, wide);
            product(e_top, wide, out_back, NULL, w.lower, batch);
            pull_through(&w);
            if (regularised) norms(e_top, batch, wide, w.error_norm), regulariser(&w, s);
            descend(&w, s, s->target_scale, regularised, clips, rescaled + r);
        }

        for (long t = steps;; t--) { /* as in the paper: h_t is h[t - 1], z_t is z[t] */
            const long here = ((t - 1) * runs + r) * step, below = here - runs * step, stacked = (r * steps + t - 1) * step;
            const results kept = {error + stacked, lower ? lower + stacked : NULL, lower ? upper + stacked : NULL,
                                  input_omega && t > 1 ? input_omega + stacked - step : NULL,
                                  omega ? omega + (t - 1) * runs + r : NULL};
            memcpy(zhat, w.state, size * sizeof(REAL));
            store(zhat, target + here, batch, hidden, padded);
            load(z + here + runs * step, prediction, batch, hidden, padded); /* (7) starts on the trajectory: p^0 = z_t */
            load(z + here, w.state, batch, hidden, padded);
            any_errors(loss, prediction, zhat, e, size);
            if (t == 1) {
                keep(&w, s, e, 0, kept, hidden);
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
                if (k == 0) keep(&w, s, e, regularised, kept, hidden);
                descend(&w, s, s->loss_scale * s->target_scale, regularised, clips, rescaled + r);
            }
        }
    }
    free(memory);
    return 0;
}
