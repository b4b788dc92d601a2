#if defined(__x86_64__)

#define LOWRANK_KERNELS avx512
#include "kernels/isa/kernel_table.h"
#include "kernels/tiles/adam_update.h"
#include "kernels/tiles/add_loop.h"
#include "kernels/tiles/product_tiles.h"
#include "kernels/tiles/where_positive_loop.h"
#include "kernels/tiles/widen_loop.h"

namespace lowrank::kernels {

extern const KernelTable kAvx512Kernels;
const KernelTable kAvx512Kernels = {
    .multiply = &avx512::multiply_span,
    .multiply_transposed = &avx512::multiply_transposed_span,
    .part_rows = 6,
    .part_columns = 2048,
    .adam_step_float = &avx512::adam_loop<float>,
    .adam_step_double = &avx512::adam_loop<double>,
    .add_loop = &avx512::add_loop,
    .largest_bits = &avx512::largest_bits,
    .widen_loop = &avx512::widen_loop,
    .where_positive_loop = &avx512::where_positive_loop,
};

}  // namespace lowrank::kernels

#endif
