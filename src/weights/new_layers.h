#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/linalg/thin_svd.h>
#include <lowrank/weights/report.h>

#include <set>
#include <string>
#include <vector>

namespace lowrank {

/// One layer of an adapter that is written without its model.
struct NewLayer {
  std::string path;
  double scaling = 1;
  at::Tensor b, a;  // matrices of the dtype that is written: (out, rank) and (rank, in)
};

/// What the factors of a new layer are to be.
struct FactorForm {
  double scaling = 1;
  SplitScale split = SplitScale::kBalanced;
  at::ScalarType dtype_b = at::kFloat, dtype_a = at::kFloat;
};

/// Returns the first `rank` triplets of an update as factors with s·B·A = U·S·Vᵀ.
NewLayer factored(const Svd& update, int64_t rank, const FactorForm& form);

/// Throws TensorError that names the layer if a norm is not finite.
void require_measured(const char* operation, const LayerError& error);

/// A path as a regular expression that matches it alone.
std::string escaped(const std::string& text);

/// Returns whether the path ends with "." and one of the names, so that the name as an entry of
/// target_modules or of a pattern also means the path.
bool is_caught(const std::string& path, const std::set<std::string>& names);

/// Gives the config the rank and alpha that most layers have, and the others in its patterns.
void set_ranks(LoraConfig& config, const std::vector<NewLayer>& layers);

}  // namespace lowrank
