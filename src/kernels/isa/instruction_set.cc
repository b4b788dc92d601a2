#include "kernels/isa/instruction_set.h"

#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cstdlib>

namespace lowrank::kernels {
namespace {

InstructionSet chosen() {
  const auto supported = supported_instruction_sets();
  const char* const wanted = std::getenv("LOWRANK_CPU");
  if (wanted == nullptr || *wanted == '\0') return supported.back();
  const auto found = std::find_if(supported.begin(), supported.end(),
                                  [&](InstructionSet set) { return name_of(set) == wanted; });
  if (found != supported.end()) return *found;
  std::vector<std::string_view> names;
  for (const auto set : supported) names.push_back(name_of(set));
  fail<ArgumentError>(
      "cpu",
      fmt::format("LOWRANK_CPU must name an instruction set that this machine has: {}",
                  fmt::join(names, ", ")),
      fmt::format("\"{}\"", wanted));
}

}  // namespace

std::string_view name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::kPortable:
      return "portable";
    case InstructionSet::kAvx2:
      return "avx2";
    case InstructionSet::kAvx512:
      return "avx512";
  }
  return "portable";
}

std::vector<InstructionSet> supported_instruction_sets() {
  std::vector<InstructionSet> sets = {InstructionSet::kPortable};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    sets.push_back(InstructionSet::kAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
      sets.push_back(InstructionSet::kAvx512);
    }
  }
#endif
  return sets;
}

InstructionSet instruction_set() {
  static const InstructionSet set = chosen();
  return set;
}

}  // namespace lowrank::kernels
