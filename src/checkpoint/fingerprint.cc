#include "checkpoint/fingerprint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/io/sha256.h>

#include <algorithm>

#include "kernels/parallel.h"

namespace lowrank {
namespace {

std::string line_of(const std::string& name, const at::Tensor& tensor) {
  return fmt::format("{} {} {} {}\n", name, c10::toString(tensor.scalar_type()),
                     fmt::join(tensor.sizes(), " "), sha256_hex(tensor));
}

std::string hash_of(std::vector<std::string> lines) {
  std::sort(lines.begin(), lines.end());
  Sha256 sum;
  for (const auto& line : lines) sum.update(line.data(), line.size());
  return sum.hex();
}

}  // namespace

void Fingerprint::add(const std::string& name, const at::Tensor& tensor) {
  lines_.push_back(line_of(name, tensor));
}

std::string Fingerprint::hex() const { return hash_of(lines_); }

std::string fingerprint_of(const Checkpoint& checkpoint) {
  const auto& names = checkpoint.names();
  std::vector<std::string> lines(names.size());
  kernels::parallel_for(0, static_cast<int64_t>(names.size()), 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      lines[i] = line_of(names[i], checkpoint.tensor(names[i]));
    }
  });
  return hash_of(std::move(lines));
}

}  // namespace lowrank
