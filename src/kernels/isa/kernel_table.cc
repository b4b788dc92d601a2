#include "kernels/isa/kernel_table.h"

namespace lowrank::kernels {

extern const KernelTable kPortableKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
#endif

const KernelTable& kernel_table(InstructionSet set) {
#if defined(__x86_64__)
  if (set == InstructionSet::kAvx512) return kAvx512Kernels;
  if (set == InstructionSet::kAvx2) return kAvx2Kernels;
#endif
  static_cast<void>(set);
  return kPortableKernels;
}

const KernelTable& kernel_table() {
  static const KernelTable& table = kernel_table(instruction_set());
  return table;
}

}  // namespace lowrank::kernels
