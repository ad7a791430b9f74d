// Elementary functions in double from basic operations alone, so that no libm variant can change a bit. For tables,
// losses and schedules; the vectorised float32 exponential is in vector.h.
#ifndef RMJ_KERNELS_CPU_MATH_H
#define RMJ_KERNELS_CPU_MATH_H

// Relative error under 4e-16 where the result is normal; 0 below -745, infinity above 709.79.
double rmj_math_exp(double x);
// x > 0. Absolute error under 1e-15 relative to max(1, |log x|).
double rmj_math_log(double x);
// log(1 + x), x > -1, relative error under 1e-15.
double rmj_math_log1p(double x);
// |x| <= 1e6: absolute error under 1e-12 (three-part reduction by pi/2).
double rmj_math_sin(double x);
double rmj_math_cos(double x);

#endif
