#include "kernels/adam_step.h"

#include "kernels/kernel_table.h"

namespace lowrank::kernels {

void adam_step(float* p, const float* g, float* m, float* v, int64_t count, const AdamStep& step) {
  kernel_table().adam_step_float(p, g, m, v, count, step);
}

void adam_step(double* p, const double* g, double* m, double* v, int64_t count,
               const AdamStep& step) {
  kernel_table().adam_step_double(p, g, m, v, count, step);
}

}  // namespace lowrank::kernels
