#define LOWRANK_KERNELS portable
#include "kernels/isa/kernel_table.h"
#include "kernels/tiles/adam_update.h"
#include "kernels/tiles/add_loop.h"
#include "kernels/tiles/product_tiles.h"
#include "kernels/tiles/where_positive_loop.h"
#include "kernels/tiles/widen_loop.h"

namespace lowrank::kernels {

extern const KernelTable kPortableKernels;
const KernelTable kPortableKernels = {
    .multiply = &portable::multiply_span,
    .multiply_transposed = &portable::multiply_transposed_span,
    .part_rows = 6,
    .part_columns = 2048,
    .adam_step_float = &portable::adam_loop<float>,
    .adam_step_double = &portable::adam_loop<double>,
    .add_loop = &portable::add_loop,
    .largest_bits = &portable::largest_bits,
    .widen_loop = &portable::widen_loop,
    .where_positive_loop = &portable::where_positive_loop,
};

}  // namespace lowrank::kernels
