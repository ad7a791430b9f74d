#include "kernels/cpu/math.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LN2_HIGH 0x1.62e42fee00000p-1
#define LN2_LOW 0x1.a39ef35793c76p-33

static double power_of_two(int exponent)
{
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// x = n log 2 + r, |r| <= log(2)/2; Taylor to the 14th power leaves 3e-18.
double rmj_math_exp(double x)
{
    if (!(x < 709.78)) {
        return x > 0 ? HUGE_VAL : x;
    }
    if (x < -745) {
        return 0;
    }
    double n = rint(x * 0x1.71547652b82fep+0);
    double r = (x - n * LN2_HIGH) - n * LN2_LOW;
    double sum = 1;
    for (int k = 14; k >= 1; k--) {
        sum = 1 + sum * r / k;
    }
    int half = (int)n / 2;
    return sum * power_of_two(half) * power_of_two((int)n - half);
}

// x = m 2^e, m in [sqrt(1/2), sqrt 2): log m = 2 atanh(t), t = (m - 1)/(m + 1).
double rmj_math_log(double x)
{
    int exponent;
    double m = frexp(x, &exponent);
    if (m < 0x1.6a09e667f3bcdp-1) {
        m *= 2;
        exponent--;
    }
    double t = (m - 1) / (m + 1);
    double t2 = t * t, sum = 0;
    for (int k = 25; k >= 3; k -= 2) {
        sum = (sum + 1.0 / k) * t2;
    }
    return exponent * LN2_HIGH + (2 * t + (2 * t * sum + exponent * LN2_LOW));
}

// For small x the logarithm of the rounded 1 + x, corrected by what the rounding lost (Kahan; Goldberg 1991, th. 4).
double rmj_math_log1p(double x)
{
    double u = 1 + x;
    if (u == 1) {
        return x;
    }
    return rmj_math_log(u) * (x / (u - 1));
}

// r = x - n pi/2, |r| <= pi/4; pi/2 in three parts of 33 bits, so that n times a part is exact for |n| < 2^20.
static int reduce(double x, double *r)
{
    double n = rint(x * 0x1.45f306dc9c883p-1);
    *r = ((x - n * 0x1.921fb54400000p+0) - n * 0x1.0b4611a600000p-34) - n * 0x1.3198a2e037073p-69;
    return (int)((int64_t)n & 3);
}

static double sine_near_zero(double r)
{
    double r2 = r * r, sum = 0;
    for (int k = 17; k >= 3; k -= 2) {
        sum = -(1 + sum) * r2 / (k * (k - 1));
    }
    return r + r * sum;
}

static double cosine_near_zero(double r)
{
    double r2 = r * r, sum = 0;
    for (int k = 18; k >= 2; k -= 2) {
        sum = -(1 + sum) * r2 / (k * (k - 1));
    }
    return 1 + sum;
}

static double quadrant(int n, double r)
{
    double value = (n & 1) != 0 ? cosine_near_zero(r) : sine_near_zero(r);
    return (n & 2) != 0 ? -value : value;
}

double rmj_math_sin(double x)
{
    double r;
    int n = reduce(x, &r);
    return quadrant(n, r);
}

double rmj_math_cos(double x)
{
    double r;
    int n = reduce(x, &r);
    return quadrant(n + 1, r);
}
