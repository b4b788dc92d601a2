#include "adapter/peft/keys.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "adapter/trained_tensors.h"

namespace lowrank {
namespace {

std::vector<std::string> segments_of(std::string_view name) {
  std::vector<std::string> segments;
  for (size_t begin = 0; begin <= name.size();) {
    const auto end = std::min(name.find('.', begin), name.size());
    segments.emplace_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return segments;
}

std::string joined(const std::vector<std::string>& segments) {
  std::string name;
  for (const auto& segment : segments) name += (name.empty() ? "" : ".") + segment;
  return name;
}

bool is_factor(const std::string& segment) {
  static const std::set<std::string> factors = {"lora_A", "lora_B", "lora_embedding_A",
                                                "lora_embedding_B", "lora_magnitude_vector"};
  return factors.contains(segment);
}

/// In PEFT, the wrapper of a MultiheadAttention contains the wrapper of its output projection.
std::string wrapped_prefix(const Target& target) {
  if (target.layer.empty()) return "";
  if (target.attention.empty() || target.layer == target.attention) return target.layer + ".";
  return target.attention + ".base_layer" + target.layer.substr(target.attention.size()) + ".";
}

/// PEFT wraps a module once for each of its parameters that is named directly. The factors of the
/// last one belong to the outermost wrapper, and each earlier one is one "base_layer" further in.
std::string prefix_of(const LayerFactors& layer, const NamedAdapter& adapter) {
  const auto& target = layer.target;
  auto prefix = wrapped_prefix(target);
  if (!target.is_parameter) return prefix;
  bool after = false;
  for (const auto& other : adapter.layers) {
    const bool same_module = other.target.layer == target.layer;
    if (after && same_module && other.target.is_parameter) prefix += "base_layer.";
    after |= &other == &layer;
  }
  return prefix;
}

/// With bias="all" and modules_to_save, PEFT writes the biases of such a module three times: under
/// their own names, again below "modules_to_save", and those of the base below "original_module".
bool is_repeated_bias(const std::string& key, const std::string& adapter,
                      const std::set<std::string>& keys) {
  auto segments = segments_of(key);
  const auto copy = std::find_if(segments.begin(), segments.end(), [](const auto& segment) {
    return segment == "modules_to_save" || segment == "original_module";
  });
  if (copy == segments.end() || segments.back() != "bias") return false;
  const auto next = segments.erase(copy);
  if (keys.contains(joined(segments))) return true;
  if (*next != "default" && *next != adapter) return false;
  segments.erase(next);
  return keys.contains(joined(segments));
}

std::vector<int64_t> magnitude_shape(const LayerFactors& layer) {
  std::vector<int64_t> shape = {layer.magnitude.size(0)};
  if (layer.target.kind != LayerKind::kConv) return shape;
  shape.insert(shape.begin(), 1);
  shape.resize(static_cast<size_t>(layer.target.weight.dim()), 1);
  return shape;
}

const char* suffix_of(const TrainedTensor& trained) {
  const bool embedding = trained.layer->target.kind == LayerKind::kEmbedding;
  switch (trained.role) {
    case TensorRole::kA:
      return embedding ? kEmbeddingKeyA : kKeyA;
    case TensorRole::kB:
      return embedding ? kEmbeddingKeyB : kKeyB;
    case TensorRole::kBias:
      return "lora_B.bias";
    default:
      return "lora_magnitude_vector";
  }
}

/// Returns the name of a parameter that is trained in full. The bias of an adapted layer is inside
/// PEFT's wrapper of the layer.
std::string whole_name(const WholeParameter& whole, const NamedAdapter& adapter) {
  if (whole.rows.defined()) {
    const auto layer = whole.path.substr(0, whole.path.rfind("weight"));
    return layer + "token_adapter.trainable_tokens_delta";
  }
  for (const auto& layer : adapter.layers) {
    const auto prefix = layer.target.layer.empty() ? "" : layer.target.layer + ".";
    if (whole.path == prefix + "bias") return wrapped_prefix(layer.target) + "base_layer.bias";
  }
  return whole.path;
}

FileTensor whole_tensor(const WholeParameter& whole, const NamedAdapter& adapter) {
  return {whole_name(whole, adapter), whole.value, whole.value.sizes().vec(),
          fmt::format("\"{}\"", whole.path)};
}

/// Returns the tensors that are trained, in the order of trained_tensors().
std::vector<FileTensor> trained_file_tensors(const NamedAdapter& adapter) {
  std::vector<FileTensor> tensors;
  for (const auto& trained : trained_tensors(adapter)) {
    if (trained.role == TensorRole::kWhole) {
      tensors.push_back(whole_tensor(*trained.whole, adapter));
      continue;
    }
    const auto& layer = *trained.layer;
    const bool is_magnitude = trained.role == TensorRole::kMagnitude;
    tensors.push_back({prefix_of(layer, adapter) + suffix_of(trained), trained.tensor,
                       is_magnitude ? magnitude_shape(layer) : trained.tensor.sizes().vec(),
                       fmt::format("the layer \"{}\" with a weight of ({})", layer.target.path(),
                                   fmt::join(layer.target.weight.sizes(), ", "))});
  }
  return tensors;
}

}  // namespace

std::string canonical_key(std::string_view name, const std::string& adapter) {
  if (name.starts_with(kKeyPrefix)) name.remove_prefix(std::string_view(kKeyPrefix).size());
  auto segments = segments_of(name);
  for (size_t i = 0; i < segments.size(); ++i) {
    // The name of an adapter is always followed by something, unlike a suffix of the same spelling
    // ("weight").
    const bool bare = is_factor(segments[i]) && segments[i] != "lora_A" && segments[i] != "lora_B";
    const bool named = i + (bare ? 1 : 2) < segments.size() &&
                       (segments[i + 1] == "default" || segments[i + 1] == adapter);
    const auto next = segments.begin() + static_cast<std::ptrdiff_t>(i) + 1;
    if (segments[i] == "modules_to_save" && named) {
      segments.erase(next - 1, next + 1);
      break;
    }
    if (!is_factor(segments[i])) continue;
    if (named) segments.erase(next);
    if (bare && segments.size() == i + 2 && segments.back() == "weight") segments.pop_back();
    break;
  }
  return joined(segments);
}

std::vector<FileTensor> file_tensors(const NamedAdapter& adapter) {
  auto tensors = trained_file_tensors(adapter);
  for (const auto& whole : adapter.whole) {
    if (whole.is_statistic) tensors.push_back(whole_tensor(whole, adapter));
  }
  return tensors;
}

std::vector<std::pair<std::string, at::Tensor>> Adapter::named_parameters(
    const std::string& name) const {
  const StateLock lock(state_->mutex);
  std::vector<std::pair<std::string, at::Tensor>> parameters;
  for (const auto& tensor : trained_file_tensors(state_->adapter(name))) {
    parameters.emplace_back(tensor.name, tensor.tensor);
  }
  return parameters;
}

std::map<std::string, std::string> names_by_key(const SafetensorsFile& file,
                                                const std::string& adapter) {
  std::map<std::string, std::string> names;
  const std::set<std::string> keys(file.names().begin(), file.names().end());
  for (const auto& name : file.names()) {
    if (is_repeated_bias(name, adapter, keys)) continue;
    const auto [at, is_new] = names.emplace(canonical_key(name, adapter), name);
    if (is_new) continue;
    fail<FileError>(
        "load",
        fmt::format("\"{}\" must hold one tensor for \"{}\"", file.path().string(), at->first),
        fmt::format("\"{}\" and \"{}\"", at->second, name));
  }
  return names;
}

}  // namespace lowrank
