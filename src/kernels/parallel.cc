#include "kernels/parallel.h"

#include <ATen/Parallel.h>

namespace lowrank::kernels {

void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  const std::function<void(int64_t begin, int64_t end)>& f) {
  at::parallel_for(begin, end, grain, f);
}

}  // namespace lowrank::kernels
