#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/machine/machine.h>
#include <lowrank/machine/openblas.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "kernels/isa/instruction_set.h"
#include "kernels/parallel.h"
#include "kernels/products.h"

namespace lowrank {
namespace {

/// Finds a function in the loaded libraries; null if none of them has it.
template <class Function>
Function* find_function(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

/// What openblas_get_parallel() returns if OpenBLAS starts threads itself.
constexpr int kOpenBlasPthreads = 1;

std::string file_of(void* function) {
  Dl_info info;
  if (function == nullptr || dladdr(function, &info) == 0) return "";
  std::error_code none;
  const auto path = std::filesystem::canonical(info.dli_fname, none);
  return none ? info.dli_fname : path.string();
}

template <class Work>
double least_seconds(int rounds, const Work& work) {
  using Clock = std::chrono::steady_clock;
  double least = 1e9;
  for (int i = 0; i <= rounds; ++i) {  // the first round warms up
    const auto begin = Clock::now();
    work();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (i > 0) least = std::min(least, seconds);
  }
  return least;
}

double product_rate(const at::Tensor& x, const at::Tensor& w, double seconds) {
  return 2e-9 * static_cast<double>(x.size(0) * w.size(0) * w.size(1)) / seconds;
}

}  // namespace

BlasLibrary blas_library() {
  BlasLibrary library;
  library.path = file_of(dlsym(RTLD_DEFAULT, "sgemm_"));
  const auto called = [&](const char* name) {
    return library.path.find(name) != std::string::npos;
  };
  // LAPACK may load OpenBLAS beside another BLAS library. The library that has sgemm_ computes the
  // products.
  auto* const openblas = dlsym(RTLD_DEFAULT, "openblas_get_config");
  if (openblas != nullptr && (called("openblas") || file_of(openblas) == library.path)) {
    library.name = "OpenBLAS";
    auto* const threading = find_function<int()>("openblas_get_parallel");
    library.own_threads = threading != nullptr && threading() == kOpenBlasPthreads;
    const auto kernels = openblas_kernels(RTLD_DEFAULT);
    library.kernels = kernels.used;
    library.better_kernels = kernels.better;
  } else if (called("blis") || dlsym(RTLD_DEFAULT, "bli_init") != nullptr) {
    library.name = "BLIS";
    library.own_threads = called("pthread");
  } else if (at::hasMKL()) {
    library.name = "MKL";
  } else {
    const auto file = std::filesystem::path(library.path).filename().string();
    library.name = file.rfind("libblas", 0) == 0 ? "reference BLAS" : "unknown";
  }
  return library;
}

void set_threads(int threads) {
  if (threads < 1) {
    fail<ArgumentError>("threads", "there must be at least 1", fmt::format("{}", threads));
  }
  at::set_num_threads(threads);
  if (!blas_library().own_threads) return;
  if (auto* const set = find_function<void(int)>("openblas_set_num_threads")) set(1);
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const auto set : kernels::supported_instruction_sets()) {
    names.emplace_back(kernels::name_of(set));
  }
  return names;
}

std::string instruction_set() { return std::string(kernels::name_of(kernels::instruction_set())); }

MachineSpeed measure_speed() {
  const at::NoGradGuard no_grad;
  MachineSpeed speed;
  {
    const auto x = at::rand({10, 1000}), w = at::rand({2000, 1000}).t();
    const double seconds = least_seconds(100, [&] { kernels::product({x, w}); });
    speed.thin_product = product_rate(x, w, seconds);
  }
  {
    const auto x = at::rand({2048, 2048}), w = at::rand({2048, 2048});
    auto y = at::empty({2048, 2048});
    speed.large_product = product_rate(x, w, least_seconds(3, [&] { at::mm_out(y, x, w); }));
  }
  constexpr int64_t kBytes = int64_t{1} << 28;
  const auto from = at::ones({kBytes}, at::kByte);
  auto to = at::ones({kBytes}, at::kByte);
  const double seconds = least_seconds(4, [&] {
    kernels::parallel_for(
        0, kBytes, kBytes / at::get_num_threads(), [&](int64_t begin, int64_t end) {
          std::memcpy(to.data_ptr<uint8_t>() + begin, from.data_ptr<uint8_t>() + begin,
                      static_cast<size_t>(end - begin));
        });
  });
  speed.copy = 2e-9 * static_cast<double>(kBytes) / seconds;
  return speed;
}

}  // namespace lowrank
