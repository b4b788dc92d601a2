#include <dlfcn.h>
#include <lowrank/machine/openblas.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "kernels/isa/instruction_set.h"

namespace lowrank {
namespace {

/// OpenBLAS's names for its kernels with AVX2 or wider registers.
constexpr std::array<std::string_view, 6> kWideKernels = {
    "Haswell", "Zen", "Excavator", "SkylakeX", "Cooperlake", "SapphireRapids"};

std::string better_kernels(std::string_view used) {
  const auto best = kernels::supported_instruction_sets().back();
  const bool wide = std::find(kWideKernels.begin(), kWideKernels.end(), used) != kWideKernels.end();
  if (wide || best == kernels::InstructionSet::kPortable) return "";
  return best == kernels::InstructionSet::kAvx512 ? "SkylakeX" : "Haswell";
}

}  // namespace

OpenBlasKernels openblas_kernels(void* library) {
  using Name = const char*();
  auto* const core = reinterpret_cast<Name*>(dlsym(library, "openblas_get_corename"));
  auto* const config = reinterpret_cast<Name*>(dlsym(library, "openblas_get_config"));
  if (core == nullptr || config == nullptr) return {};
  OpenBlasKernels kernels{.used = core(), .better = ""};
  // An OpenBLAS that was built for a single processor has no other kernels to choose from.
  if (std::strstr(config(), "DYNAMIC_ARCH") != nullptr) {
    kernels.better = better_kernels(kernels.used);
  }
  return kernels;
}

}  // namespace lowrank
