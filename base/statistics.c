#include "base/statistics.h"

#include <math.h>

void rmj_wilson(double mean, double count, double *low, double *high)
{
    // Wilson (1927), with z of the two-sided 95 % interval.
    const double z = 1.959963984540054;
    double denominator = 1 + z * z / count;
    double centre = (mean + z * z / (2 * count)) / denominator;
    double half = z * sqrt(mean * (1 - mean) / count + z * z / (4 * count * count)) / denominator;
    *low = fmax(0, centre - half);
    *high = fmin(1, centre + half);
}
