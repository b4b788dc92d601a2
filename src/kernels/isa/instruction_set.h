#pragma once

#include <string_view>
#include <vector>

namespace lowrank::kernels {

/// What the kernels are compiled for, one after the other better.
enum class InstructionSet { kPortable, kAvx2, kAvx512 };

/// "portable", "avx2", "avx512".
std::string_view name_of(InstructionSet set);

/// Those that this machine can run, kPortable first.
std::vector<InstructionSet> supported_instruction_sets();

/// The best of them, or the one that LOWRANK_CPU names in the environment; settled by the first
/// call. Throws ArgumentError for another name, and for a set that this machine lacks.
InstructionSet instruction_set();

}  // namespace lowrank::kernels
