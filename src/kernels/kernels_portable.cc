#include "kernels/tiles/adam_loop.h"
#include "kernels/tiles/product_tiles.h"

namespace lowrank::kernels {

extern const KernelTable kPortableKernels;
const KernelTable kPortableKernels = {
    .multiply = &multiply_span,
    .multiply_transposed = &multiply_transposed_span,
    .adam_step_float = &adam_loop<float>,
    .adam_step_double = &adam_loop<double>,
};

}  // namespace lowrank::kernels
