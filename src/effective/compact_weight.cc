#include "effective/compact_weight.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

#include "effective/mark.h"

namespace lowrank::effective {
namespace {

constexpr size_t kBlockBytes = size_t{2} << 20;

[[noreturn]] void fail_pages(const char* call) {
  fail<Error>("model", "address space for weights in a compact format must be available",
              fmt::format("{} of {}", std::generic_category().message(errno), call));
}

/// Maps one block of NaN again and again.
void* map_nan(size_t bytes) {
  const int file = ::memfd_create("lowrank-nan", MFD_CLOEXEC);
  if (file < 0) fail_pages("memfd_create");
  const std::vector<float> nan(kBlockBytes / sizeof(float),
                               std::numeric_limits<float>::quiet_NaN());
  const bool is_written = ::write(file, nan.data(), kBlockBytes) == ssize_t{kBlockBytes};
  void* const start = is_written ? ::mmap(nullptr, bytes, PROT_NONE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                                 : MAP_FAILED;
  bool is_mapped = start != MAP_FAILED;
  for (size_t at = 0; is_mapped && at < bytes; at += kBlockBytes) {
    is_mapped = ::mmap(static_cast<char*>(start) + at, kBlockBytes, PROT_READ,
                       MAP_SHARED | MAP_FIXED, file, 0) != MAP_FAILED;
  }
  ::close(file);
  if (!is_mapped) fail_pages("mmap");
  return start;
}

/// Returns read-only memory of at least this size in which every float32 is NaN. It is never given
/// back, since all shells share it.
void* nan_pages(size_t bytes) {
  static std::mutex mutex;
  static void* pages = nullptr;
  static size_t size = 0;
  const std::lock_guard lock(mutex);
  if (size < bytes) {
    const auto wanted = (std::max(bytes, 2 * size) + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    pages = map_nan(wanted);
    size = wanted;
  }
  return pages;
}

at::Tensor shell_of(std::shared_ptr<const CompactWeight> weight, at::IntArrayRef shape) {
  register_operators();
  const auto count = static_cast<size_t>(c10::multiply_integers(shape));
  const auto shell = at::from_blob(nan_pages(count * sizeof(float)), shape, at::kFloat);
  StorageContext::make(shell.storage()).compact = std::move(weight);
  add_mark(shell);
  return shell;
}

}  // namespace

at::Tensor compact_shell(const at::Tensor& numbers, kernels::CompactFormat format,
                         at::IntArrayRef shape) {
  const auto rows = shape[0], columns = c10::multiply_integers(shape.slice(1));
  auto weight = std::make_shared<CompactWeight>();
  weight->numbers = numbers;
  weight->matrix = {static_cast<const char*>(numbers.data_ptr()), format, rows, columns};
  weight->geometry = {0, rows * columns, {rows, columns}, {columns, 1}};
  return shell_of(std::move(weight), shape);
}

at::Tensor unbound_shell(const at::Tensor& shell) {
  return shell_of(StorageContext::of(shell.storage())->compact, shell.sizes());
}

const CompactWeight* compact_weight_of(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.has_storage()) return nullptr;
  const auto* context = StorageContext::of(tensor.storage());
  return context == nullptr ? nullptr : context->compact.get();
}

kernels::LayerMatrix layer_matrix(const at::Tensor& matrix) {
  const auto* compact = compact_weight_of(matrix);
  return {matrix, compact == nullptr ? nullptr : &compact->matrix};
}

at::Tensor widened(const at::Tensor& view, const CompactWeight& weight) {
  const auto dense = kernels::widened(weight.matrix);
  return dense.as_strided(view.sizes(), view.strides(), view.storage_offset());
}

at::Tensor widened_rows(const CompactWeight& weight, const at::Tensor& indices) {
  const auto& matrix = weight.matrix;
  const auto flat = indices.reshape({-1}).to(at::kLong).contiguous();
  auto shape = indices.sizes().vec();
  shape.push_back(matrix.columns);
  auto rows = at::empty(shape, at::kFloat);
  const auto* from = flat.data_ptr<int64_t>();
  auto* to = rows.data_ptr<float>();
  for (int64_t i = 0; i < flat.numel(); ++i, to += matrix.columns) {
    TORCH_CHECK_INDEX(from[i] >= 0 && from[i] < matrix.rows, "index out of range in self");
    kernels::widen_row(matrix, from[i], 0, matrix.columns, to);
  }
  return rows;
}

}  // namespace lowrank::effective
