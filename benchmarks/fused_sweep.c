/* Value and gradient of dense form C with tanh, a bias and the squared loss to zero targets, fused:

       z^l = sum over s < l of tanh(W^{l,s} x^s + b^{l,s}),   x^l = x0 + z^l / L
       value = 1/N sum |x^L|^2

   Compile with -DD=<width> -DB=<samples of a block>: both are then known to the compiler, and a
   block's states stay in cache. W is [column][later layer][D][D], b is [column][later layer][D],
   first[s] the first layer block of column s, x0 is [D][N]. The gradients must come in as zeros. */

#include <math.h>
#include <string.h>

/* a <- W x + b for one row i of a layer, over the samples of a block */
static inline void row(const double *restrict W, double bias, const double *restrict x,
                       double *restrict a)
{
    for (int n = 0; n < B; n++) a[n] = bias;
    for (int j = 0; j < D; j++)
        for (int n = 0; n < B; n++) a[n] += W[j] * x[j * B + n];
}

static void forward(const double *W, const double *b, const long *first, double *x, long L)
{
    const double step = 1.0 / L;
    for (long s = 0; s < L; s++)
        for (long l = s; l < L; l++) {
            const long at = first[s] + l - s;
            for (int i = 0; i < D; i++) {
                double a[B], *restrict z = x + ((l + 1) * D + i) * B;
                row(W + (at * D + i) * D, b[at * D + i], x + s * D * B, a);
                for (int n = 0; n < B; n++) z[n] += step * tanh(a[n]);
            }
        }
}

static void backward(const double *W, const double *b, const long *first, const double *x,
                     double *lambda, double *gW, double *gb, long L)
{
    const double step = 1.0 / L;
    for (long s = L - 1; s >= 0; s--)
        for (long l = s; l < L; l++) {
            const long at = first[s] + l - s;
            const double *restrict xs = x + s * D * B;
            double *restrict below = lambda + s * D * B;
            for (int i = 0; i < D; i++) {
                double a[B], sum = 0.0;
                const double *restrict above = lambda + ((l + 1) * D + i) * B;
                row(W + (at * D + i) * D, b[at * D + i], xs, a);
                for (int n = 0; n < B; n++) {
                    const double h = tanh(a[n]);
                    a[n] = step * above[n] * (1.0 - h * h);
                    sum += a[n];
                }
                gb[at * D + i] += sum;
                for (int j = 0; j < D; j++) {
                    const double w = W[(at * D + i) * D + j];
                    double dot = 0.0;
                    for (int n = 0; n < B; n++) {
                        dot += a[n] * xs[j * B + n];
                        below[j * B + n] += w * a[n];
                    }
                    gW[(at * D + i) * D + j] += dot;
                }
            }
        }
}

/* x and lambda are room for (L + 1) D B numbers each; N is a multiple of B */
double value_and_gradient(const double *W, const double *b, const long *first, const double *x0,
                          double *gW, double *gb, double *x, double *lambda, long L, long N)
{
    double value = 0.0;
    for (long start = 0; start < N; start += B) {
        for (long l = 0; l <= L; l++)
            for (int i = 0; i < D; i++)
                memcpy(x + (l * D + i) * B, x0 + i * N + start, B * sizeof(double));
        forward(W, b, first, x, L);
        memset(lambda, 0, (L + 1) * D * B * sizeof(double));
        for (int k = 0; k < D * B; k++) {
            const double end = x[L * D * B + k];
            value += end * end / N;
            lambda[L * D * B + k] = 2.0 * end / N;
        }
        backward(W, b, first, x, lambda, gW, gb, L);
    }
    return value;
}
