/*
 * body_winograd.h - the transforms of Winograd F(4x4, 3x3), compiled once per instruction set.
 *
 * Included by body.h, which defines vec, LANES and FMA.  The transforms process one tile and
 * one vector of channels at a time.  They are element-wise over channels, so the vector width
 * does not change the bits.  Matrices B, G and A: Lavin and Gray 2015, arXiv 1509.09308.
 */

/* B^T d, a column of 6 to 6. */
static inline void input_column(vec *o, int os, const vec *d, int ds)
{
    vec d0 = d[0], d1 = d[ds], d2 = d[2 * ds], d3 = d[3 * ds], d4 = d[4 * ds],
        d5 = d[5 * ds];
    vec a = FMA(splat(-4), d2, d4), b = FMA(splat(-4), d1, d3);
    vec c = d4 - d2, e = splat(2) * (d3 - d1);
    o[0] = FMA(splat(4), d0, FMA(splat(-5), d2, d4));
    o[os] = a + b;
    o[2 * os] = a - b;
    o[3 * os] = c + e;
    o[4 * os] = c - e;
    o[5 * os] = FMA(splat(4), d1, FMA(splat(-5), d3, d5));
}

/* A^T m, a column of 6 to 4. */
static inline void output_column(vec *o, int os, const vec *m, int ms)
{
    vec m0 = m[0], m1 = m[ms], m2 = m[2 * ms], m3 = m[3 * ms], m4 = m[4 * ms],
        m5 = m[5 * ms];
    vec s = m1 + m2, d = m1 - m2, s2 = m3 + m4, d2 = m3 - m4;
    o[0] = m0 + s + s2;
    o[os] = FMA(splat(2), d2, d);
    o[2 * os] = FMA(splat(4), s2, s);
    o[3 * os] = FMA(splat(8), d2, d) + m5;
}

/* A d, a column of 4 to 6. */
static inline void gradient_column(vec *o, int os, const vec *d, int ds)
{
    vec d0 = d[0], d1 = d[ds], d2 = d[2 * ds], d3 = d[3 * ds];
    vec e = d0 + d2, f = d1 + d3, g = FMA(splat(4), d2, d0);
    vec h = FMA(splat(8), d3, splat(2) * d1);
    o[0] = d0;
    o[os] = e + f;
    o[2 * os] = e - f;
    o[3 * os] = g + h;
    o[4 * os] = g - h;
    o[5 * os] = d3;
}

/* G^T u, a column of 6 to 3. */
static inline void filter_column(vec *o, int os, const vec *u, int us)
{
    vec u0 = u[0], u1 = u[us], u2 = u[2 * us], u3 = u[3 * us], u4 = u[4 * us],
        u5 = u[5 * us];
    vec s = u1 + u2, d = u2 - u1, s2 = u3 + u4, d2 = u3 - u4;
    o[0] = FMA(splat(1.0f / 24), s2, FMA(splat(-1.0f / 6), s, splat(0.25f) * u0));
    o[os] = FMA(splat(1.0f / 12), d2, splat(1.0f / 6) * d);
    o[2 * os] = FMA(splat(1.0f / 6), s2, FMA(splat(-1.0f / 6), s, u5));
}

/* G g, a column of 3 to 6. */
static inline void filters_column(vec *o, int os, const vec *g, int gs)
{
    vec g0 = g[0], g1 = g[gs], g2 = g[2 * gs];
    vec a = splat(-1.0f / 6) * g0, b = splat(-1.0f / 6) * g1, c = splat(1.0f / 6) * g2;
    vec d = splat(1.0f / 24) * g0, e = splat(1.0f / 12) * g1;
    o[0] = splat(0.25f) * g0;
    o[os] = a + b - c;
    o[2 * os] = a - b - c;
    o[3 * os] = d + e + c;
    o[4 * os] = d - e + c;
    o[5 * os] = g2;
}

/* Reads of a window go to zeros where a row is outside of it, with a pixel stride of 0. */
static const float zeros[LANES];

typedef struct {
    const float *row[WINO_IN];
    size_t pixel[WINO_IN];
    ivec inside[WINO_IN];
} tile_rows;

static inline __attribute__((always_inline)) tile_rows tile_rows_of(
    const int n, const float *x, size_t pixel, size_t row, wino_window in)
{
    tile_rows t;
#pragma GCC unroll 6
    for (int i = 0; i < n; i++) {
        bool inside = i >= in.y_lo && i < in.y_hi;
        t.row[i] = inside ? x + (ptrdiff_t)i * (ptrdiff_t)row : zeros;
        t.pixel[i] = inside ? pixel : 0;
        t.inside[i] = (ivec){0} - (int32_t)inside;
    }
    return t;
}

/* What the reads of a tile do; a constant in each copy of the code. */
typedef enum { READ_PLAIN, READ_NORM, READ_NORM_RELU } read_mode;

typedef struct {
    vec scale, shift;
} read_vec;

static inline read_mode read_mode_of(read_norm norm)
{
    if (!norm.scale)
        return READ_PLAIN;
    return norm.act == SIM_ACT_RELU ? READ_NORM_RELU : READ_NORM;
}

static inline __attribute__((always_inline)) read_vec read_vec_of(const read_mode mode,
                                                                  read_norm norm,
                                                                  size_t c0, size_t lanes)
{
    read_vec r = {0};
    if (mode != READ_PLAIN) {
        r.scale = load_lanes(norm.scale + c0, lanes);
        r.shift = load_lanes(norm.shift + c0, lanes);
    }
    return r;
}

static inline __attribute__((always_inline)) vec read_through(const read_mode mode, vec x,
                                                              const read_vec *r)
{
    if (mode == READ_PLAIN)
        return x;
    return activate_vec(FMA(x, r->scale, r->shift),
                        mode == READ_NORM_RELU ? SIM_ACT_RELU : SIM_ACT_NONE);
}

/* Column j of n pixels. */
static inline __attribute__((always_inline)) void read_column(const int n,
                                                              const read_mode mode,
                                                              const tile_rows *t, int j,
                                                              size_t lanes,
                                                              const read_vec *r, vec *d)
{
#pragma GCC unroll 6
    for (int i = 0; i < n; i++) {
        const float *p = t->row[i] + (size_t)j * t->pixel[i];
        d[i] = read_through(mode, lanes == LANES ? load(p) : load_part(p, lanes), r);
        if (mode != READ_PLAIN) /* padding is 0 after the norm */
            d[i] = (vec)((ivec)d[i] & t->inside[i]);
    }
}

static inline bool has_column(wino_window in, int j)
{
    return j >= in.x_lo && j < in.x_hi;
}

static inline __attribute__((always_inline)) void read_complete_tile(const int n,
                                                                     size_t pixel,
                                                                     const float *x,
                                                                     size_t row, vec *d)
{
#pragma GCC unroll 6
    for (int i = 0; i < n; i++)
#pragma GCC unroll 6
        for (int j = 0; j < n; j++)
            d[i * n + j] = load(x + (size_t)i * row + (size_t)j * pixel);
}

static inline bool is_complete(wino_window w, int n)
{
    return w.y_lo == 0 && w.x_lo == 0 && w.y_hi == n && w.x_hi == n;
}

static inline void store_lanes(float *p, size_t lanes, vec v)
{
    if (lanes == LANES)
        store(p, v);
    else
        store_part(p, lanes, v);
}

/*
 * The functions below process one tile and one vector of channels.  They are not inlined:
 * inside the loop over channels the compiler would keep 36 pointers, and spill them.
 */

/* Transforms the rows of w [6][6]; frequency f is stored at v + f * f_stride. */
static inline __attribute__((always_inline)) void store_input(const vec w[36], float *v,
                                                              size_t f_stride,
                                                              size_t lanes)
{
    vec o[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
        input_column(o, 1, w + 6 * i, 1);
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++, v += f_stride)
            store_lanes(v, lanes, o[j]);
    }
}

static inline __attribute__((always_inline)) void complete_input(
    const read_mode mode, const float *x, size_t pixel, size_t row, const read_vec *r,
    float *v, size_t f_stride)
{
    vec d[36], w[36];
    read_complete_tile(6, pixel, x, row, d);
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++) {
        vec column[6];
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            column[i] = read_through(mode, d[6 * i + j], r);
        input_column(w + j, 6, column, 1);
    }
    store_input(w, v, f_stride, LANES);
}

/* The transform of a column of zeros is zeros. */
static inline __attribute__((always_inline)) void window_input(
    const read_mode mode, size_t lanes, const float *x, size_t pixel, size_t row,
    wino_window in, const read_vec *r, float *v, size_t f_stride)
{
    const tile_rows t = tile_rows_of(6, x, pixel, row, in);
    vec d[6], w[36];
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++) {
        if (has_column(in, j)) {
            read_column(6, mode, &t, j, lanes, r, d);
            input_column(w + j, 6, d, 1);
        } else {
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                w[6 * i + j] = (vec){0};
        }
    }
    store_input(w, v, f_stride, lanes);
}

static __attribute__((noinline)) void input_complete(const float *x, size_t pixel,
                                                     size_t row, float *v,
                                                     size_t f_stride)
{
    const read_vec none = {0};
    complete_input(READ_PLAIN, x, pixel, row, &none, v, f_stride);
}

static __attribute__((noinline)) void input_complete_norm(const float *x, size_t pixel,
                                                          size_t row, read_norm norm,
                                                          size_t c0, float *v,
                                                          size_t f_stride)
{
    const read_vec r = read_vec_of(READ_NORM, norm, c0, LANES);
    complete_input(READ_NORM, x, pixel, row, &r, v, f_stride);
}

static __attribute__((noinline)) void input_complete_relu(const float *x, size_t pixel,
                                                          size_t row, read_norm norm,
                                                          size_t c0, float *v,
                                                          size_t f_stride)
{
    const read_vec r = read_vec_of(READ_NORM_RELU, norm, c0, LANES);
    complete_input(READ_NORM_RELU, x, pixel, row, &r, v, f_stride);
}

static __attribute__((noinline)) void input_edge(const float *x, size_t pixel, size_t row,
                                                 wino_window in, float *v,
                                                 size_t f_stride)
{
    const read_vec none = {0};
    window_input(READ_PLAIN, LANES, x, pixel, row, in, &none, v, f_stride);
}

static __attribute__((noinline)) void input_edge_norm(const float *x, size_t pixel,
                                                      size_t row, wino_window in,
                                                      read_norm norm, size_t c0, float *v,
                                                      size_t f_stride)
{
    const read_vec r = read_vec_of(READ_NORM, norm, c0, LANES);
    window_input(READ_NORM, LANES, x, pixel, row, in, &r, v, f_stride);
}

static __attribute__((noinline)) void input_edge_relu(const float *x, size_t pixel,
                                                      size_t row, wino_window in,
                                                      read_norm norm, size_t c0, float *v,
                                                      size_t f_stride)
{
    const read_vec r = read_vec_of(READ_NORM_RELU, norm, c0, LANES);
    window_input(READ_NORM_RELU, LANES, x, pixel, row, in, &r, v, f_stride);
}

/* Vector c0 of the channels. */
static inline __attribute__((always_inline)) void input_vector(
    const read_mode mode, bool complete, const float *x, size_t pixel, size_t row,
    wino_window in, read_norm norm, size_t c0, float *v, size_t f_stride)
{
    if (mode == READ_PLAIN)
        complete ? input_complete(x + c0, pixel, row, v + c0, f_stride)
                 : input_edge(x + c0, pixel, row, in, v + c0, f_stride);
    else if (mode == READ_NORM)
        complete ? input_complete_norm(x + c0, pixel, row, norm, c0, v + c0, f_stride)
                 : input_edge_norm(x + c0, pixel, row, in, norm, c0, v + c0, f_stride);
    else
        complete ? input_complete_relu(x + c0, pixel, row, norm, c0, v + c0, f_stride)
                 : input_edge_relu(x + c0, pixel, row, in, norm, c0, v + c0, f_stride);
}

/* The last channels, which do not fill a vector. */
static __attribute__((noinline)) void input_part(size_t lanes, const float *x,
                                                 size_t pixel, size_t row, wino_window in,
                                                 read_norm norm, size_t c0, float *v,
                                                 size_t f_stride)
{
    read_mode mode = read_mode_of(norm);
    const read_vec r = read_vec_of(mode, norm, c0, lanes);
    window_input(mode, lanes, x, pixel, row, in, &r, v, f_stride);
}

static void wino_input(size_t c, const float *x, size_t pixel, size_t row, wino_window in,
                       read_norm norm, float *v, size_t f_stride)
{
    const bool complete = is_complete(in, WINO_IN);
    const read_mode mode = read_mode_of(norm);
    size_t c0 = 0;
    for (; c0 + LANES <= c; c0 += LANES)
        input_vector(mode, complete, x, pixel, row, in, norm, c0, v, f_stride);
    if (c0 < c)
        input_part(c - c0, x + c0, pixel, row, in, norm, c0, v + c0, f_stride);
}

/* Loads 36 frequencies and transforms the columns: w [4][6]. */
static inline __attribute__((always_inline)) void load_output(const float *m,
                                                              size_t f_stride,
                                                              size_t lanes, vec w[24])
{
    vec d[36];
#pragma GCC unroll 36
    for (int f = 0; f < 36; f++, m += f_stride)
        d[f] = lanes == LANES ? load(m) : load_part(m, lanes);
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++)
        output_column(w + j, 6, d + j, 6);
}

static __attribute__((noinline)) void output_complete(const float *m, size_t f_stride,
                                                      float *y, size_t pixel, size_t row)
{
    vec w[24], o[4];
    load_output(m, f_stride, LANES, w);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        output_column(o, 1, w + 6 * i, 1);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            store(y + (size_t)i * row + (size_t)j * pixel, o[j]);
    }
}

static inline __attribute__((always_inline)) void output_window(size_t lanes,
                                                                const float *m,
                                                                size_t f_stride,
                                                                wino_window out, float *y,
                                                                size_t pixel, size_t row)
{
    vec w[24], o[4];
    load_output(m, f_stride, lanes, w);
    for (int i = out.y_lo; i < out.y_hi; i++) {
        output_column(o, 1, w + 6 * i, 1);
        for (int j = out.x_lo; j < out.x_hi; j++)
            store_lanes(y + (size_t)i * row + (size_t)j * pixel, lanes, o[j]);
    }
}

static __attribute__((noinline)) void output_edge(const float *m, size_t f_stride,
                                                  wino_window out, float *y, size_t pixel,
                                                  size_t row)
{
    output_window(LANES, m, f_stride, out, y, pixel, row);
}

static __attribute__((noinline)) void output_part(size_t lanes, const float *m,
                                                  size_t f_stride, wino_window out,
                                                  float *y, size_t pixel, size_t row)
{
    output_window(lanes, m, f_stride, out, y, pixel, row);
}

static void wino_output(size_t k, const float *m, size_t f_stride, wino_window out,
                        float *y, size_t pixel, size_t row)
{
    bool complete = is_complete(out, WINO_OUT);
    size_t k0 = 0;
    for (; k0 + LANES <= k; k0 += LANES) {
        if (complete)
            output_complete(m + k0, f_stride, y + k0, pixel, row);
        else
            output_edge(m + k0, f_stride, out, y + k0, pixel, row);
    }
    if (k0 < k)
        output_part(k - k0, m + k0, f_stride, out, y + k0, pixel, row);
}

/* Transforms the rows of w [6][4]; frequency f is stored at v + f * f_stride. */
static inline __attribute__((always_inline)) void store_gradient(const vec w[24],
                                                                 float *v,
                                                                 size_t f_stride,
                                                                 size_t lanes)
{
    vec o[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
        gradient_column(o, 1, w + 4 * i, 1);
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++, v += f_stride)
            store_lanes(v, lanes, o[j]);
    }
}

static __attribute__((noinline)) void gradient_complete(const float *dy, size_t pixel,
                                                        size_t row, float *v,
                                                        size_t f_stride)
{
    vec d[16], w[24];
    read_complete_tile(4, pixel, dy, row, d);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
        gradient_column(w + j, 4, d + j, 4);
    store_gradient(w, v, f_stride, LANES);
}

static inline __attribute__((always_inline)) void gradient_window(
    size_t lanes, const float *dy, size_t pixel, size_t row, wino_window in, float *v,
    size_t f_stride)
{
    const tile_rows t = tile_rows_of(4, dy, pixel, row, in);
    const read_vec none = {0};
    vec d[4], w[24];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        if (has_column(in, j)) {
            read_column(4, READ_PLAIN, &t, j, lanes, &none, d);
            gradient_column(w + j, 4, d, 1);
        } else {
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                w[4 * i + j] = (vec){0};
        }
    }
    store_gradient(w, v, f_stride, lanes);
}

static __attribute__((noinline)) void gradient_edge(const float *dy, size_t pixel,
                                                    size_t row, wino_window in, float *v,
                                                    size_t f_stride)
{
    gradient_window(LANES, dy, pixel, row, in, v, f_stride);
}

static __attribute__((noinline)) void gradient_part(size_t lanes, const float *dy,
                                                    size_t pixel, size_t row,
                                                    wino_window in, float *v,
                                                    size_t f_stride)
{
    gradient_window(lanes, dy, pixel, row, in, v, f_stride);
}

static void wino_gradient(size_t k, const float *dy, size_t pixel, size_t row,
                          wino_window in, float *v, size_t f_stride)
{
    bool complete = is_complete(in, WINO_OUT);
    size_t k0 = 0;
    for (; k0 + LANES <= k; k0 += LANES) {
        if (complete)
            gradient_complete(dy + k0, pixel, row, v + k0, f_stride);
        else
            gradient_edge(dy + k0, pixel, row, in, v + k0, f_stride);
    }
    if (k0 < k)
        gradient_part(k - k0, dy + k0, pixel, row, in, v + k0, f_stride);
}

static void wino_filters(const float *g, float *u, size_t f_stride)
{
    for (size_t l = 0; l < HALF_PANEL; l += LANES) {
        vec taps[9], t[18], o[6];
#pragma GCC unroll 9
        for (int i = 0; i < 9; i++)
            taps[i] = load(g + (size_t)i * HALF_PANEL + l);
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++)
            filters_column(t + j, 3, taps + j, 3);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) {
            filters_column(o, 1, t + (size_t)(3 * i), 1);
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++)
                store(u + (size_t)(6 * i + j) * f_stride + l, o[j]);
        }
    }
}

static void wino_filter(size_t n, const float *u, size_t f_stride, float *dw,
                        size_t tap_stride)
{
    for (size_t n0 = 0; n0 < n; n0 += LANES) {
        vec w[18], o[3];
        size_t lanes = n - n0 < LANES ? n - n0 : LANES;
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++) {
            vec column[6];
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++) {
                const float *p = u + (size_t)(6 * i + j) * f_stride + n0;
                column[i] = lanes == LANES ? load(p) : load_part(p, lanes);
            }
            filter_column(w + j, 6, column, 1);
        }
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) {
            filter_column(o, 1, w + 6 * i, 1);
            for (int j = 0; j < 3; j++)
                store_lanes(dw + (size_t)(3 * i + j) * tap_stride + n0, lanes, o[j]);
        }
    }
}
