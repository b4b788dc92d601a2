#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/train/sampler.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace lowrank {
namespace {

constexpr const char* kSampler = "sampler";
/// The epoch number that the validation split is drawn with. No epoch has it, so the split does not
/// follow the order of one.
constexpr int64_t kSplitEpoch = -1;

/// SplitMix64 (Steele, Lea, Flood 2014): every bit of the state affects every bit of the result.
uint64_t mix(uint64_t state) {
  state += 0x9e3779b97f4a7c15;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
  state = (state ^ (state >> 27)) * 0x94d049bb133111eb;
  return state ^ (state >> 31);
}

/// LibTorch's generator uses only 32 bits of a seed, so seed, epoch and stream are mixed first.
at::Tensor permutation(int64_t count, uint64_t seed, int64_t epoch, int64_t stream) {
  const uint64_t mixed =
      mix(mix(mix(seed) ^ static_cast<uint64_t>(epoch)) ^ static_cast<uint64_t>(stream));
  auto generator = at::detail::createCPUGenerator(mixed & 0xffffffff);
  return at::randperm(count, generator, at::TensorOptions().dtype(at::kLong));
}

at::Tensor checked_indices(const at::Tensor& indices, const char* what) {
  if (!indices.defined() || indices.dim() != 1 || indices.scalar_type() != at::kLong ||
      indices.numel() == 0) {
    fail<ArgumentError>(
        kSampler, fmt::format("{} must be int64 of one dimension and not empty", what),
        indices.defined()
            ? fmt::format("{} values of {} dimensions", indices.numel(), indices.dim())
            : "an undefined tensor");
  }
  return indices.to(at::kCPU).contiguous().clone();
}

void check_options(const SamplerOptions& options, bool has_replayed) {
  if (options.batch_size < 1) {
    fail<ArgumentError>(kSampler, "batch_size must be at least 1",
                        fmt::format("{}", options.batch_size));
  }
  if (!(options.replay >= 0 && options.replay < 1)) {
    fail<ArgumentError>(kSampler, "replay must be at least 0 and below 1",
                        fmt::format("{}", options.replay));
  }
  if ((options.replay > 0) != has_replayed) {
    fail<ArgumentError>(kSampler, "replay needs a share above 0 and a second set of indices",
                        has_replayed ? "a set and no share" : "a share and no set");
  }
  if (has_replayed && options.batch_size < 2) {
    fail<ArgumentError>(kSampler, "replay needs batches of at least 2",
                        fmt::format("a batch_size of {}", options.batch_size));
  }
}

}  // namespace

Sampler::Sampler(const at::Tensor& indices, const SamplerOptions& options,
                 const at::Tensor& replayed)
    : indices_(checked_indices(indices, "indices")), options_(options) {
  check_options(options, replayed.defined());
  own_per_batch_ = options.batch_size;
  if (!replayed.defined()) return;
  replayed_ = checked_indices(replayed, "replayed indices");
  const auto share = std::llround(static_cast<double>(options.batch_size) * options.replay);
  own_per_batch_ -= std::clamp<int64_t>(share, 1, options.batch_size - 1);
}

int64_t Sampler::batches_per_epoch() const {
  return (indices_.numel() + own_per_batch_ - 1) / own_per_batch_;
}

/// Returns how many replayed indices go with `own` indices of the first set, in the proportion of a
/// full batch.
int64_t Sampler::replayed_among(int64_t own) const {
  const int64_t full = options_.batch_size - own_per_batch_;
  if (full == 0 || own == own_per_batch_) return full;
  const auto share = std::llround(static_cast<double>(own) * static_cast<double>(full) /
                                  static_cast<double>(own_per_batch_));
  return std::max<int64_t>(1, share);
}

at::Tensor Sampler::permuted(const at::Tensor& indices, int64_t epoch, int64_t stream) const {
  if (!options_.shuffle) return indices;
  return indices.index_select(0, permutation(indices.numel(), options_.seed, epoch, stream));
}

void Sampler::load_epoch(int64_t epoch) {
  order_ = permuted(indices_, epoch, 0);
  if (replayed_.defined()) {
    const int64_t last = batches_per_epoch() - 1;
    int64_t needed = last * (options_.batch_size - own_per_batch_) +
                     replayed_among(indices_.numel() - last * own_per_batch_);
    std::vector<at::Tensor> rounds;
    for (int64_t stream = 1; needed > 0; ++stream, needed -= replayed_.numel()) {
      rounds.push_back(permuted(replayed_, epoch, stream));
    }
    replay_order_ = at::cat(rounds);
  }
  loaded_epoch_ = epoch;
}

at::Tensor Sampler::next() {
  if (loaded_epoch_ != position_.epoch) load_epoch(position_.epoch);
  const int64_t begin = position_.batch * own_per_batch_;
  const int64_t own = std::min(own_per_batch_, indices_.numel() - begin);
  at::Tensor batch = order_.narrow(0, begin, own);
  if (replayed_.defined()) {
    const int64_t full = options_.batch_size - own_per_batch_;
    batch = at::cat({batch, replay_order_.narrow(0, position_.batch * full, replayed_among(own))});
  }
  ++position_.batch;
  if (position_.batch == batches_per_epoch()) position_ = {position_.epoch + 1, 0};
  return batch;
}

void Sampler::seek(SamplerPosition position) {
  if (position.epoch < 0 || position.batch < 0 || position.batch >= batches_per_epoch()) {
    fail<ArgumentError>(kSampler,
                        fmt::format("a position must be an epoch from 0 and a batch of 0 to {}",
                                    batches_per_epoch() - 1),
                        fmt::format("epoch {}, batch {}", position.epoch, position.batch));
  }
  position_ = position;
}

SamplerPosition Sampler::position_of_step(int64_t step) const {
  if (step < 0) {
    fail<ArgumentError>(kSampler, "a step must be at least 0", fmt::format("{}", step));
  }
  return {step / batches_per_epoch(), step % batches_per_epoch()};
}

ValidationSplit split_validation(const at::Tensor& indices, double share, uint64_t seed) {
  if (!(share >= 0 && share < 1)) {
    fail<ArgumentError>(kSampler, "the validation share must be at least 0 and below 1",
                        fmt::format("{}", share));
  }
  const at::Tensor all = checked_indices(indices, "indices");
  if (share == 0) return {all, all.narrow(0, 0, 0)};
  const int64_t count = all.numel();
  if (count < 2) {
    fail<ArgumentError>(kSampler, "a validation share needs at least 2 examples", "1");
  }
  const auto wanted = std::llround(static_cast<double>(count) * share);
  const int64_t held = std::clamp<int64_t>(wanted, 1, count - 1);
  const at::Tensor order = permutation(count, seed, kSplitEpoch, 0);
  const auto in_order = [&](const at::Tensor& places) {
    return all.index_select(0, std::get<0>(places.sort()));
  };
  return {in_order(order.narrow(0, held, count - held)), in_order(order.narrow(0, 0, held))};
}

}  // namespace lowrank
