#include "kernels/thin_product.h"

#include "kernels/product_sharing.h"

namespace lowrank::kernels {
namespace {

template <class Kernel>
void share(const ThinProduct& product, int64_t column_unit, const Kernel& kernel) {
  if (product.rows == 0 || product.columns == 0) return;
  const Parts parts(product, column_unit, threads_for(product));
  for_each(parts.count(), [&](int64_t i) { kernel(product, parts.rows(i), parts.columns(i)); });
}

}  // namespace

void multiply(const ThinProduct& product, const KernelTable& kernels) {
  share(product, kColumnUnit, kernels.multiply);
}

void multiply_transposed(const ThinProduct& product, const KernelTable& kernels) {
  share(product, kTransposedColumnUnit, kernels.multiply_transposed);
}

}  // namespace lowrank::kernels
