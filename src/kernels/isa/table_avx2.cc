#if defined(__x86_64__)

#define LOWRANK_KERNELS avx2
#include "kernels/isa/kernel_table.h"
#include "kernels/tiles/adam_update.h"
#include "kernels/tiles/add_loop.h"
#include "kernels/tiles/packed_tiles.h"
#include "kernels/tiles/panel_tiles.h"
#include "kernels/tiles/product_tiles.h"
#include "kernels/tiles/where_positive_loop.h"
#include "kernels/tiles/widen_loop.h"

namespace lowrank::kernels {

extern const KernelTable kAvx2Kernels;
const KernelTable kAvx2Kernels = {
    .multiply = &avx2::multiply_packed_span,
    .multiply_transposed = &avx2::multiply_panels_span,
    .part_rows = 5,
    .part_columns = 512,
    .adam_step_float = &avx2::adam_loop<float>,
    .adam_step_double = &avx2::adam_loop<double>,
    .add_loop = &avx2::add_loop,
    .largest_bits = &avx2::largest_bits,
    .widen_loop = &avx2::widen_loop,
    .where_positive_loop = &avx2::where_positive_loop,
};

}  // namespace lowrank::kernels

#endif
