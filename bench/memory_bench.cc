#include <ATen/ATen.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <fmt/format.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/optim/adam.h>
#include <torch/nn/functional/loss.h>
#include <torch/version.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "app/models/mlp.h"

// Prints the most memory that tensors took in some LoRA steps on 784-1000-2000-10, batch 10, rank
// 1, and the memory that training must hold, as one JSON line of bytes for bench/compare.py.

namespace {

std::atomic<int64_t> held{0}, most{0};

/// LibTorch's own allocator, with its bytes counted.
struct Counted {
  at::DataPtr original;
  int64_t bytes;

  static void release(void* context) {
    const std::unique_ptr<Counted> block(static_cast<Counted*>(context));
    held -= block->bytes;
  }

  static at::DataPtr allocate(c10::Allocator& from, size_t size) {
    auto original = from.allocate(size);
    const auto bytes = static_cast<int64_t>(size);
    const int64_t now = held += bytes;
    for (int64_t seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    void* const data = original.get();
    const auto device = original.device();
    return {data, new Counted{std::move(original), bytes}, &release, device};
  }
};

struct CountingAllocator : c10::Allocator {
#if TORCH_VERSION_MAJOR < 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 2)
  at::DataPtr allocate(size_t size) const override { return Counted::allocate(*original, size); }
#else
  at::DataPtr allocate(size_t size) override { return Counted::allocate(*original, size); }
  void copy_data(void* to, const void* from, size_t size) const override {
    std::memcpy(to, from, size);
  }
#endif
  c10::Allocator* original = c10::GetCPUAllocator();
};

int64_t bytes_of(const std::vector<at::Tensor>& tensors) {
  int64_t bytes = 0;
  for (const auto& tensor : tensors) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

}  // namespace

int main() {
  static CountingAllocator allocator;
  c10::SetCPUAllocator(&allocator, /*priority=*/255);
  constexpr int64_t kBatch = 10, kRank = 1;
  const std::vector<int64_t> sizes = {784, 1000, 2000, 10};

  at::manual_seed(0);
  lowrank::app::Mlp model(lowrank::app::MlpOptions{.sizes = sizes});
  const auto base = bytes_of(model->parameters());
  const auto adapter = lowrank::attach(*model, {.rank = kRank});
  lowrank::Adam optimizer(adapter.parameters(), {});
  for (int step = 0; step < 5; ++step) {
    const auto x = at::randn({kBatch, sizes.front()});
    const auto labels = at::randint(0, sizes.back(), {kBatch}, at::kLong);
    optimizer.zero_grad();
    torch::nn::functional::cross_entropy(model->forward(x), labels).backward();
    optimizer.step();
  }
  const auto factors = 4 * bytes_of(adapter.parameters());  // with gradient and two moments
  // What the backward pass reads: each layer's input, x·Aᵀ, and the logits.
  int64_t numbers = 0;
  for (const auto size : sizes) numbers += size;
  numbers += static_cast<int64_t>(adapter.layers().size()) * kRank;
  const auto activations = numbers * kBatch * static_cast<int64_t>(sizeof(float));
  fmt::print(R"({{"peak": {}, "base": {}, "factors": {}, "activations": {}}})"
             "\n",
             most.load(), base, factors, activations);
  return 0;
}
