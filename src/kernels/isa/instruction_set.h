#pragma once

#include <string_view>
#include <vector>

namespace lowrank::kernels {

/// The instruction sets that the kernels are compiled for, from the slowest to the fastest.
enum class InstructionSet { kPortable, kAvx2, kAvx512 };

/// "portable", "avx2", "avx512".
std::string_view name_of(InstructionSet set);

/// The instruction sets that this machine can run, kPortable first.
std::vector<InstructionSet> supported_instruction_sets();

/// The fastest of them, or the one that the environment variable LOWRANK_CPU names; the first call
/// decides. Throws ArgumentError if LOWRANK_CPU names an unknown set or one that this machine
/// lacks.
InstructionSet instruction_set();

}  // namespace lowrank::kernels
