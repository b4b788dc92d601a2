#include "train/processes/gradient_exchange.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json_difference.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

namespace lowrank {
namespace {

constexpr int64_t kFlags = 2;

at::Tensor bytes_as_tensor(const std::string& bytes, int64_t size) {
  auto tensor = at::zeros({size}, at::kByte);
  std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

std::string tensor_as_bytes(const at::Tensor& tensor, int64_t size) {
  return {static_cast<const char*>(tensor.data_ptr()), static_cast<size_t>(size)};
}

/// The text as JSON, or as a JSON string.
nlohmann::json as_json(const std::string& text) {
  auto json = nlohmann::json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  return json.is_discarded() ? nlohmann::json(text) : json;
}

/// Mixes a number into a hash (the finaliser of SplitMix64).
uint64_t mixed(uint64_t hash, uint64_t number) {
  hash += number + 0x9e3779b97f4a7c15;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
  return hash ^ (hash >> 31);
}

/// float64 if a parameter is, which holds the others exactly.
at::ScalarType widest(const std::vector<NamedParameter>& parameters) {
  auto dtype = at::kFloat;
  for (const auto& parameter : parameters) {
    if (parameter.tensor.scalar_type() == at::kDouble) dtype = at::kDouble;
  }
  return dtype;
}

}  // namespace

SharedSteps::SharedSteps(ProcessGroup& group, const std::vector<NamedParameter>& parameters,
                         int64_t accumulate)
    : group_(group), parameters_(parameters), accumulate_(accumulate) {
  for (const auto& parameter : parameters_) numbers_ += parameter.tensor.numel();
  const auto count = static_cast<int64_t>(parameters_.size());
  gradients_ = at::zeros({rounds(), numbers_}, widest(parameters_));
  header_ = at::zeros({kFlags + rounds() * (1 + count)}, at::kDouble);
}

void SharedSteps::require_equal(const std::string& identity, const std::string& shared_identity) {
  const auto json =
      nlohmann::json{{"run", as_json(identity)}, {"shared", as_json(shared_identity)}}.dump();
  const auto size = at::full({1}, static_cast<int64_t>(json.size()), at::kLong);
  std::vector<int64_t> sizes;
  for (const auto& one : group_.all_gather(size)) sizes.push_back(one.item<int64_t>());
  const auto longest = *std::max_element(sizes.begin(), sizes.end());
  const auto texts = group_.all_gather(bytes_as_tensor(json, std::max<int64_t>(1, longest)));
  const auto expected = tensor_as_bytes(texts[0], sizes[0]);
  for (size_t rank = 1; rank < texts.size(); ++rank) {
    const auto found = tensor_as_bytes(texts[rank], sizes[rank]);
    if (found == expected) continue;
    const auto difference = first_difference(as_json(expected), as_json(found));
    fail<ArgumentError>(
        "train", "all processes must have the same options, base and data",
        difference ? fmt::format("{} {} in process 0 and {} in process {}", difference->field,
                                 difference->one, difference->other, rank)
                   : fmt::format("others in process {}", rank));
  }
}

void SharedSteps::share_parameters() {
  const at::NoGradGuard no_grad;
  for (const auto& parameter : parameters_) {
    auto values = parameter.tensor.detach().cpu().contiguous();
    group_.broadcast(values);
    if (!is_first()) at::Tensor(parameter.tensor).copy_(values);
  }
}

std::string SharedSteps::share_bytes(const std::string& bytes) {
  auto size = at::full({1}, static_cast<int64_t>(bytes.size()), at::kLong);
  group_.broadcast(size);
  const auto count = size.item<int64_t>();
  auto tensor = is_first() ? bytes_as_tensor(bytes, count) : at::zeros({count}, at::kByte);
  group_.broadcast(tensor);
  return tensor_as_bytes(tensor, count);
}

void SharedSteps::seed(uint64_t seed, int64_t step, int64_t batch) const {
  const auto hash =
      mixed(mixed(mixed(0, seed), static_cast<uint64_t>(step)), static_cast<uint64_t>(batch));
  at::manual_seed(hash);  // of all devices
}

void SharedSteps::take(int64_t batch, double loss) {
  const at::NoGradGuard no_grad;
  const auto round = batch / group_.size(), count = static_cast<int64_t>(parameters_.size());
  auto* header = header_.data_ptr<double>() + kFlags;
  header[round] = loss;
  auto* is_there = header + rounds() + round * count;
  int64_t begin = 0;
  for (const auto& parameter : parameters_) {
    const auto& tensor = parameter.tensor;
    const auto gradient = tensor.grad();
    *is_there++ = gradient.defined() ? 1 : 0;
    if (gradient.defined()) {
      gradients_[round].narrow(0, begin, tensor.numel()).copy_(gradient.flatten());
      at::Tensor(tensor).mutable_grad().reset();
    }
    begin += tensor.numel();
  }
}

SharedSteps::Outcome SharedSteps::exchange(bool is_interrupted, bool has_ended) {
  header_[0] = is_interrupted ? 1.0 : 0.0;
  header_[1] = has_ended ? 1.0 : 0.0;
  const auto headers = group_.all_gather(header_);
  Outcome outcome;
  for (const auto& header : headers) {
    outcome.is_interrupted = outcome.is_interrupted || header[0].item<double>() != 0;
  }
  outcome.has_ended = headers[0][1].item<double>() != 0;
  if (outcome.is_interrupted || outcome.has_ended) return outcome;
  for (int64_t batch = 0; batch < accumulate_; ++batch) {
    const auto& header = headers[static_cast<size_t>(batch % group_.size())];
    outcome.losses.push_back(header[kFlags + batch / group_.size()].item<double>());
  }
  add_up(group_.all_gather(gradients_), headers);
  return outcome;
}

void SharedSteps::add_up(const std::vector<at::Tensor>& gradients,
                         const std::vector<at::Tensor>& headers) {
  const at::NoGradGuard no_grad;
  const auto count = static_cast<int64_t>(parameters_.size());
  int64_t begin = 0;
  for (int64_t i = 0; i < count; ++i) {
    const auto& parameter = parameters_[static_cast<size_t>(i)].tensor;
    at::Tensor sum;
    for (int64_t batch = 0; batch < accumulate_; ++batch) {
      const auto rank = static_cast<size_t>(batch % group_.size());
      const auto round = batch / group_.size();
      const auto* is_there = headers[rank].data_ptr<double>() + kFlags + rounds() + round * count;
      if (is_there[i] == 0) continue;
      const auto part = gradients[rank][round]
                            .narrow(0, begin, parameter.numel())
                            .to(parameter.device(), parameter.scalar_type())
                            .view(parameter.sizes());
      sum = sum.defined() ? sum.add_(part) : part.clone();
    }
    at::Tensor(parameter).mutable_grad() = sum;
    begin += parameter.numel();
  }
}

}  // namespace lowrank
