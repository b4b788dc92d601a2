#include "linalg/product_svd.h"

#include <ATen/ATen.h>

namespace lowrank {

Svd product_svd(const at::Tensor& b, const at::Tensor& a) {
  const auto [q_b, r_b] = at::linalg_qr(b);
  const auto [q_a, r_a] = at::linalg_qr(a.t());
  const auto small = thin_svd(r_b.mm(r_a.t()), "B·A");
  return {.u = q_b.mm(small.u), .s = small.s, .v = q_a.mm(small.v)};
}

}  // namespace lowrank
