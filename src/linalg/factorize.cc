#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/linalg/factorize.h>

namespace lowrank {

Factors truncate(const Svd& decomposition, const RankRule& rule, const FactorizeOptions& options) {
  const at::NoGradGuard no_grad;
  const auto& [u, s, v] = decomposition;
  const int64_t rank = rule.choose(s, u.size(0), v.size(0));
  const auto u_r = u.narrow(1, 0, rank);
  const auto s_r = s.narrow(0, 0, rank);
  const auto vt_r = v.narrow(1, 0, rank).t();
  if (!options.balanced)
    return {.b = (u_r * s_r).contiguous(), .a = vt_r.clone(at::MemoryFormat::Contiguous)};
  const auto root = s_r.sqrt();
  return {.b = (u_r * root).contiguous(), .a = (root.unsqueeze(1) * vt_r).contiguous()};
}

Factors factorize(const at::Tensor& w, const RankRule& rule, const FactorizeOptions& options) {
  if (w.defined() && w.dim() == 2) rule.require_possible(w.size(0), w.size(1));
  return truncate(thin_svd(w, options.name), rule, options);
}

}  // namespace lowrank
