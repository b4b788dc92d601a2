#pragma once

#include <cstdint>
#include <functional>

namespace lowrank::kernels {

/// f(begin, end) on parts of [begin, end) of at least `grain`, by LibTorch's own threads and as
/// many as at::set_num_threads() allows. at::parallel_for itself is serial wherever it is compiled
/// without OpenMP: this is the one file that is compiled with it.
void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  const std::function<void(int64_t begin, int64_t end)>& f);

}  // namespace lowrank::kernels
