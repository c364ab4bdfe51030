/* Products of a run's small matrices, whose rows are padded with zeros to whole vectors, and the memory for them. */

/* ---- products -------------------------------------------------------------------------------------------------------- */

#define ROWS 5   /* rows of the left matrix, and */
#define COLUMNS 4 /* vectors of the right one, that one block of the product takes: their sums stay in registers */

/* A block of out = start + left W: `rows` rows, `columns` vectors, from a panel of W packed column block by column block. */
INLINE void block(int rows, int columns, const REAL *left, long left_stride, const vec *panel, const REAL *start, REAL *out,
                  long out_stride, long depth) {
    vec sum[ROWS][COLUMNS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) sum[i][j] = start ? ((const vec *)(start + i * out_stride))[j] : (vec){0};
    for (long k = 0; k < depth; k++)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++) sum[i][j] += left[i * left_stride + k] * panel[k * columns + j];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) ((vec *)(out + i * out_stride))[j] = sum[i][j];
}

#define CASE(r, c)                                                                       \
    case 10 * r + c:                                                                     \
        block(r, c, left, left_stride, panel, start, out, out_stride, depth);            \
        break;
#define CASES(r) CASE(r, 1) CASE(r, 2) CASE(r, 3) CASE(r, 4)

static void any_block(int rows, int columns, const REAL *left, long left_stride, const vec *panel, const REAL *start, REAL *out,
                      long out_stride, long depth) {
    switch (10 * rows + columns) {
        CASES(1)
        CASES(2)
        CASES(3)
        CASES(4)
        CASES(5)
    }
}

/* A right-hand matrix (depth, units) as `product` reads it; `padded` is the length of a row of the result. */
typedef struct {
    REAL *packed;
    long depth, padded;
} matrix;

/* out = start + left W for rows (B, depth) of length left_stride; start may be NULL, or out. */
static void product(const REAL *left, long left_stride, matrix w, const REAL *start, REAL *out, long batch) {
    for (long first = 0; first < w.padded / WIDTH; first += COLUMNS) {
        const long left_over = w.padded / WIDTH - first;
        const int columns = left_over < COLUMNS ? left_over : COLUMNS;
        const vec *panel = (const vec *)(w.packed + first * WIDTH * w.depth);
        for (long row = 0; row < batch; row += ROWS) {
            const int rows = batch - row < ROWS ? batch - row : ROWS;
            const long at = row * w.padded + first * WIDTH;
            any_block(rows, columns, left + row * left_stride, left_stride, panel, start ? start + at : NULL, out + at,
                      w.padded, w.depth);
        }
    }
}

/* Fill a matrix from w, whose entry in row k and column j lies at k * down + j * right. */
static void pack(const REAL *w, long down, long right, matrix m, long units) {
    REAL *packed = m.packed;
    for (long first = 0; first < m.padded; first += COLUMNS * WIDTH) {
        const long end = first + COLUMNS * WIDTH < m.padded ? first + COLUMNS * WIDTH : m.padded;
        for (long k = 0; k < m.depth; k++)
            for (long j = first; j < end; j++) *packed++ = j < units ? w[k * down + j * right] : 0;
    }
}

static void load(const REAL *rows, REAL *padded_rows, long batch, long hidden, long padded) {
    for (long b = 0; b < batch; b++) memcpy(padded_rows + b * padded, rows + b * hidden, hidden * sizeof(REAL));
}

static void store(const REAL *padded_rows, REAL *rows, long batch, long hidden, long padded) {
    for (long b = 0; b < batch; b++) memcpy(rows + b * hidden, padded_rows + b * padded, hidden * sizeof(REAL));
}

static void store_scaled(const REAL *padded_rows, REAL factor, REAL *rows, long batch, long hidden, long padded) {
    for (long b = 0; b < batch; b++)
        for (long j = 0; j < hidden; j++) rows[b * hidden + j] = factor * padded_rows[b * padded + j];
}

/* So many numbers, all 0, or NULL. The caller frees them. */
static REAL *arrays(long count) {
    void *memory = NULL;
    if (posix_memalign(&memory, BYTES, count * sizeof(REAL))) return NULL;
    return memset(memory, 0, count * sizeof(REAL));
}

static long padded_size(long hidden) { return (hidden + WIDTH - 1) / WIDTH * WIDTH; }

/* The next so many of them; whole vectors, so that each part is aligned. */
static REAL *take(REAL **next, long count) {
    REAL *here = *next;
    *next += padded_size(count);
    return here;
}


