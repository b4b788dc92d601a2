#pragma once

#include <cstdint>
#include <functional>

namespace lowrank::kernels {

/// Calls f(begin, end) for parts of [begin, end) of at least `grain` elements, on LibTorch's own
/// threads, at most as many as at::set_num_threads() allows. at::parallel_for is serial in any file
/// that is compiled without OpenMP; parallel.cc is the one file that is compiled with it.
void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  const std::function<void(int64_t begin, int64_t end)>& f);

}  // namespace lowrank::kernels
