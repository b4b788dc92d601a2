#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/file_bytes.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/weights/merge.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <system_error>

#include "weights/blocks.h"
#include "weights/rounding.h"
#include "weights/updates.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSmallFile = uint64_t{64} << 20;

/// Computes the tensors of a merge.
class Merge {
 public:
  Merge(const Checkpoint& base, const std::vector<fs::path>& adapters,
        const CheckpointMergeOptions& options)
      : base_(base), options_(options) {
    const char* operation = options.subtract ? "subtract" : "merge";
    for (const auto& folder : adapters) {
      updates_.push_back(Updates::read(base, folder, options.prefix, operation));
      for (const auto& name : updates_.back().names()) {
        if (!updates_.back().replaces(name) || !options.subtract) continue;
        fail<FileError>(
            "subtract",
            fmt::format("\"{}\" must change its base by updates alone", folder.string()),
            fmt::format("\"{}\", which took the place of the base's", name));
      }
    }
  }

  /// Returns the merged tensor, and what was done to it.
  at::Tensor tensor(const std::string& name, MergedTensor& report) const {
    const auto own = base_.tensor(name);
    report.name = name;
    report.numbers = own.numel();
    if (!changes(name)) return own;
    const Updates* replacing = nullptr;
    for (const auto& updates : updates_) {
      if (updates.replaces(name)) replacing = &updates;
    }
    const auto before = replacing == nullptr ? own : replacing->replacement(name);
    report.is_replaced = replacing != nullptr;
    // Counts and the like are replaced as they are.
    if (!own.is_floating_point()) {
      report.unchanged = before.eq(own).sum().item<int64_t>();
      return before.to(own.scalar_type());
    }
    return sum(name, before, own, report);
  }

  bool changes(const std::string& name) const {
    return std::any_of(updates_.begin(), updates_.end(),
                       [&](const auto& updates) { return updates.changes(name); });
  }

 private:
  /// `start` plus all updates, a block of rows at a time, in the dtype of `own`.
  at::Tensor sum(const std::string& name, const at::Tensor& start, const at::Tensor& own,
                 MergedTensor& report) const {
    const auto count = own.dim() == 0 ? 1 : own.size(0);
    const auto from = start.reshape({count, -1}), before = own.reshape({count, -1});
    auto result = at::empty(own.sizes(), own.options());
    const auto to = result.view({count, -1});
    const auto rows = std::max<int64_t>(1, kBlockNumbers / std::max<int64_t>(1, from.size(1)));
    double update = 0, rounding = 0;
    for (int64_t begin = 0; begin < count; begin += rows) {
      const auto size = std::min(rows, count - begin);
      const auto old = from.narrow(0, begin, size).to(at::kDouble).contiguous();
      auto exact = old.clone();
      for (const auto& updates : updates_) {
        updates.add_to(name, exact, begin, options_.subtract ? -1 : 1);
      }
      const auto figures = round_into(to.narrow(0, begin, size), exact, old,
                                      before.narrow(0, begin, size).contiguous());
      if (!figures.is_finite) {
        fail<TensorError>("merge", fmt::format("the sums in \"{}\" must be finite", name),
                          fmt::format("NaN or Inf as {}", c10::toString(own.scalar_type())));
      }
      update += figures.update;
      rounding += figures.rounding;
      report.unchanged += figures.unchanged;
    }
    report.update = std::sqrt(update);
    report.rounding = std::sqrt(rounding);
    return result;
  }

  const Checkpoint& base_;
  const CheckpointMergeOptions& options_;
  std::vector<Updates> updates_;
};

/// The small files of a model's folder that are no weights: config, tokenizer, README.
std::vector<fs::path> other_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::error_code none;
    const auto extension = entry.path().extension();
    const bool is_weights = extension == ".safetensors" || extension == ".bin" ||
                            extension == ".pt" || extension == ".gguf";
    const bool is_hidden = entry.path().filename().string().starts_with('.');
    if (is_weights || is_hidden || !entry.is_regular_file(none)) continue;
    if (entry.file_size(none) <= kSmallFile) files.push_back(entry.path().filename());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void require_free(const fs::path& file) {
  std::error_code none;
  if (!fs::exists(file, none)) return;
  fail<FileError>("merge", fmt::format("\"{}\" must not exist yet", file.string()), "a file");
}

/// The numbers as whole numbers of their bits: 0 and -0 differ, and NaN is equal to itself.
at::Tensor bits_of(const at::Tensor& tensor) {
  switch (tensor.element_size()) {
    case 8:
      return tensor.view(at::kLong);
    case 4:
      return tensor.view(at::kInt);
    case 2:
      return tensor.view(at::kShort);
    default:
      return tensor.view(at::kByte);
  }
}

fs::path place_of(const Checkpoint& base, const fs::path& out, size_t file) {
  return base.is_folder() ? out / base.files()[file] : out;
}

}  // namespace

double CheckpointMergeReport::relative_rounding() const {
  double update = 0, rounding = 0;
  for (const auto& tensor : tensors) {
    update += tensor.update * tensor.update;
    rounding += tensor.rounding * tensor.rounding;
  }
  return update == 0 ? 0 : std::sqrt(rounding / update);
}

nlohmann::ordered_json to_json(const CheckpointMergeReport& report) {
  nlohmann::ordered_json json;
  json["tensors"] = nlohmann::ordered_json::array();
  for (const auto& tensor : report.tensors) {
    json["tensors"].push_back({{"name", tensor.name},
                               {"update", tensor.update},
                               {"rounding", tensor.rounding},
                               {"numbers", tensor.numbers},
                               {"unchanged", tensor.unchanged},
                               {"replaced", tensor.is_replaced}});
  }
  json["copied"] = report.copied;
  json["relative_rounding"] = report.relative_rounding();
  return json;
}

CheckpointMergeReport merge_adapters(const Checkpoint& base, const std::vector<fs::path>& adapters,
                                     const fs::path& out, const CheckpointMergeOptions& options) {
  const at::NoGradGuard no_grad;
  const Merge merge(base, adapters, options);
  CheckpointMergeReport report;
  FileGroup files;
  const auto count = static_cast<int64_t>(base.names().size());
  int64_t done = 0;
  for (size_t i = 0; i < base.files().size(); ++i) {
    const auto place = place_of(base, out, i);
    if (!options.force) require_free(place);
    std::vector<SafetensorsEntry> entries;
    for (const auto& name : base.names_in(i)) entries.push_back({name, base.tensor(name)});
    write_safetensors(files.open(place), entries, base.metadata_of(i),
                      [&](const SafetensorsEntry& entry) {
                        if (options.on_tensor) options.on_tensor(entry.name, done++, count);
                        if (!merge.changes(entry.name)) {
                          ++report.copied;
                          return entry.tensor;
                        }
                        report.tensors.emplace_back();
                        return merge.tensor(entry.name, report.tensors.back());
                      });
  }
  if (base.is_folder()) {
    for (const auto& file : other_files(base.place())) {
      if (!options.force) require_free(out / file);
      files.add(out / file, read_file(base.place() / file, kSmallFile));
    }
  }
  files.commit();
  return report;
}

std::vector<VerifiedTensor> verify_merge(const Checkpoint& base,
                                         const std::vector<fs::path>& adapters,
                                         const Checkpoint& merged,
                                         const CheckpointMergeOptions& options) {
  const at::NoGradGuard no_grad;
  const Merge merge(base, adapters, options);
  std::vector<VerifiedTensor> wrong;
  const auto& names = base.names();
  if (names.size() != merged.names().size()) {
    fail<FileError>("verify", "both models must have the same tensors",
                    fmt::format("{} and {}", names.size(), merged.names().size()));
  }
  for (size_t i = 0; i < names.size(); ++i) {
    if (options.on_tensor) {
      options.on_tensor(names[i], static_cast<int64_t>(i), static_cast<int64_t>(names.size()));
    }
    MergedTensor ignored;
    const auto wanted = merge.tensor(names[i], ignored);
    const auto found = merged.tensor(names[i]);
    if (found.sizes() != wanted.sizes() || found.scalar_type() != wanted.scalar_type()) {
      fail<FileError>("verify",
                      fmt::format("\"{}\" must have one shape and dtype in both models", names[i]),
                      "others");
    }
    const auto differs = bits_of(found).ne(bits_of(wanted));
    const auto count = differs.sum().item<int64_t>();
    if (count == 0) continue;
    const auto largest = found.to(at::kDouble).sub(wanted.to(at::kDouble)).abs().max();
    wrong.push_back({names[i], count, largest.item<double>()});
  }
  return wrong;
}

}  // namespace lowrank
