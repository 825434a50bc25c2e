/* A plain loop that a step with sparse rows cannot do without: it sums rows of a weight, and updates them by Adam with decay. */
#include <math.h>
#include <stdint.h>
#include <string.h>

/* ids: (rows, ones). sums, slopes: (rows, units), the output and its gradient. w and its moments m and v: (columns, units) */
void loop_step(float *w, float *m, float *v, float *sums, const float *slopes, const int32_t *ids, int rows, int ones,
               int units) {
    for (int r = 0; r < rows; r++) {
        float *sum = sums + (size_t)r * (size_t)units;
        memset(sum, 0, sizeof(float) * (size_t)units);
        for (int k = 0; k < ones; k++) {
            const float *row = w + (size_t)ids[r * ones + k] * (size_t)units;
            for (int j = 0; j < units; j++)
                sum[j] += row[j];
        }
    }
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < ones; k++) {
            const size_t at = (size_t)ids[r * ones + k] * (size_t)units;
            const float *slope = slopes + (size_t)r * (size_t)units;
            float *row = w + at, *mean = m + at, *square = v + at;
            for (int j = 0; j < units; j++) {
                mean[j] = 0.9f * mean[j] + 0.1f * slope[j];
                square[j] = 0.999f * square[j] + 0.001f * slope[j] * slope[j];
                row[j] = 0.99999f * row[j] - 0.001f * mean[j] / (sqrtf(square[j]) + 1e-8f);
            }
        }
}
