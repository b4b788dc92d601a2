#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/weights/merge.h>
#include <lowrank/weights/report.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/checkpoint_writer.h"
#include "checkpoint/fingerprint.h"
#include "kernels/parallel.h"
#include "linalg/blocks.h"
#include "weights/adapter_updates.h"
#include "weights/companion_files.h"
#include "weights/rounding.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;

/// Computes the tensors of a merge.
class Merge {
 public:
  Merge(const Checkpoint& base, const std::vector<fs::path>& adapters,
        const CheckpointMergeOptions& options)
      : base_(base), options_(options) {
    const char* operation = options.subtract ? "subtract" : "merge";
    for (const auto& folder : adapters) {
      updates_.push_back(Updates::read(base_, folder, options.prefix, operation));
      if (options.subtract && updates_.back().has_dora()) {
        fail<FileError>("subtract",
                        fmt::format("\"{}\" must change its base by updates that do not depend on "
                                    "it",
                                    folder.string()),
                        "use_dora");
      }
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

  /// Whether the model's head and its embeddings, which were one, differ afterwards.
  bool unties() const {
    return base_.is_tied() && (changes(base_.table()) || changes(UntiedBase::head()));
  }

  /// The names of the tensors of file `i`.
  std::vector<std::string> names_in(size_t file) const {
    auto names = base_.checkpoint().names_in(file);
    const auto& head = UntiedBase::head();
    const bool has_table = std::find(names.begin(), names.end(), base_.table()) != names.end();
    if (unties() && has_table && !base_.checkpoint().contains(head)) names.push_back(head);
    return names;
  }

  const UntiedBase& base() const { return base_; }

  std::vector<std::string> notes() const {
    std::vector<std::string> notes;
    for (const auto& updates : updates_) {
      if (!updates.note().empty()) notes.push_back(updates.note());
    }
    return notes;
  }

  /// The numbers of the adapters that were made for another base.
  std::vector<size_t> of_other_bases() const {
    std::vector<size_t> others;
    std::string own;
    for (size_t i = 0; i < updates_.size(); ++i) {
      const auto& expected = updates_[i].base_sha256();
      if (expected.empty()) continue;
      if (own.empty()) own = fingerprint_of(base_.checkpoint());
      if (own != expected) others.push_back(i);
    }
    return others;
  }

  bool changes(const std::string& name) const {
    return std::any_of(updates_.begin(), updates_.end(),
                       [&](const auto& updates) { return updates.changes(name); });
  }

 private:
  /// `start` plus all updates in the dtype of `own`: blocks of rows, each by one thread.
  at::Tensor sum(const std::string& name, const at::Tensor& start, const at::Tensor& own,
                 MergedTensor& report) const {
    const auto count = own.dim() == 0 ? 1 : own.size(0);
    const auto from = start.reshape({count, -1}), before = own.reshape({count, -1});
    auto result = at::empty(own.sizes(), own.options());
    const auto to = result.view({count, -1});
    const bool is_whole = std::any_of(updates_.begin(), updates_.end(), [&](const auto& updates) {
      return updates.needs_all_rows(name);
    });
    const auto rows =
        is_whole ? std::max<int64_t>(1, count)
                 : std::max<int64_t>(1, kBlockNumbers / std::max<int64_t>(1, from.size(1)));
    const auto stored = base_.stored(name).format;
    const auto float8 = float8_kind(stored);
    std::vector<RoundedFigures> of_blocks(static_cast<size_t>((count + rows - 1) / rows));
    const auto add_block = [&](int64_t block) {
      const auto begin = block * rows, size = std::min(rows, count - begin);
      const auto old = from.narrow(0, begin, size).to(at::kDouble).contiguous();
      auto exact = old.clone();
      for (const auto& updates : updates_) {
        updates.add_to(name, exact, begin, options_.subtract ? -1 : 1);
      }
      return round_into(to.narrow(0, begin, size), exact, old,
                        before.narrow(0, begin, size).contiguous(), float8);
    };
    const auto blocks = static_cast<int64_t>(of_blocks.size());
    kernels::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
      const at::NoGradGuard no_grad;  // each thread has its own
      for (int64_t i = first; i < last; ++i) of_blocks[static_cast<size_t>(i)] = add_block(i);
    });
    double update = 0, rounding = 0;
    for (const auto& figures : of_blocks) {
      if (!figures.is_finite) {
        fail<TensorError>("merge", fmt::format("the sums in \"{}\" must be finite", name),
                          fmt::format("NaN or Inf as {}", stored));
      }
      update += figures.update;
      rounding += figures.rounding;
      report.unchanged += figures.unchanged;
    }
    report.update = std::sqrt(update);
    report.rounding = std::sqrt(rounding);
    return result;
  }

  UntiedBase base_;
  const CheckpointMergeOptions& options_;
  std::vector<Updates> updates_;
};

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

nlohmann::ordered_json to_json(const MergedTensor& tensor) {
  return {{"name", tensor.name},           {"update", tensor.update},
          {"rounding", tensor.rounding},   {"numbers", tensor.numbers},
          {"unchanged", tensor.unchanged}, {"replaced", tensor.is_replaced}};
}

/// The reverse, of what an interrupted merge has noted.
MergedTensor from_json(const std::string& name, const nlohmann::ordered_json& json) {
  MergedTensor tensor;
  tensor.name = name;
  tensor.update = json.value("update", 0.0);
  tensor.rounding = json.value("rounding", 0.0);
  tensor.numbers = json.value("numbers", int64_t{0});
  tensor.unchanged = json.value("unchanged", int64_t{0});
  tensor.is_replaced = json.value("replaced", false);
  return tensor;
}

/// Writes the tensors of one merge, file after file.
class MergeWriting {
 public:
  MergeWriting(const Merge& merge, const CheckpointMergeOptions& options, CheckpointWriter& writer)
      : merge_(merge), options_(options), writer_(writer) {
    const auto& base = merge.base().checkpoint();
    for (size_t i = 0; i < base.files().size(); ++i) {
      count_ += static_cast<int64_t>(merge.names_in(i).size());
    }
  }

  void write(size_t file) {
    const auto& base = merge_.base();
    std::vector<SafetensorsEntry> entries;
    for (const auto& name : merge_.names_in(file)) {
      const auto stored = base.stored(name);
      // Only dtype and shape are told of.
      entries.push_back(
          {name, at::zeros({}, stored.dtype).expand(stored.shape), float8_kind(stored.format)});
    }
    const auto make = [&](const SafetensorsEntry& entry) -> CheckpointWriter::Content {
      if (!merge_.changes(entry.name)) return {base.tensor(entry.name), nullptr};
      MergedTensor tensor;
      const auto merged = merge_.tensor(entry.name, tensor);
      return {merged, to_json(tensor)};
    };
    const auto take = [&](const SafetensorsEntry& entry, const nlohmann::ordered_json& json) {
      if (options_.on_tensor) options_.on_tensor(entry.name, done_++, count_);
      if (json.is_null()) {
        ++report_.copied;
      } else {
        report_.tensors.push_back(from_json(entry.name, json));
      }
    };
    const auto& checkpoint = base.checkpoint();
    writer_.write(checkpoint.files()[file].string(), entries, checkpoint.metadata_of(file),
                  {.make = make, .report = take});
  }

  void add_other_base(const fs::path& adapter) { report_.of_other_bases.push_back(adapter); }

  const CheckpointMergeReport& report() {
    report_.resumed = writer_.resumed();
    report_.notes = merge_.notes();
    return report_;
  }

 private:
  const Merge& merge_;
  const CheckpointMergeOptions& options_;
  CheckpointWriter& writer_;
  CheckpointMergeReport report_;
  int64_t done_ = 0, count_ = 0;
};

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
    json["tensors"].push_back(to_json(tensor));
  }
  json["copied"] = report.copied;
  json["resumed"] = report.resumed;
  json["notes"] = report.notes;
  json["of_other_bases"] = nlohmann::ordered_json::array();
  for (const auto& folder : report.of_other_bases) {
    json["of_other_bases"].push_back(folder.string());
  }
  json["relative_rounding"] = report.relative_rounding();
  return json;
}

CheckpointMergeReport merge_adapters(const Checkpoint& base, const std::vector<fs::path>& adapters,
                                     const fs::path& out, const CheckpointMergeOptions& options) {
  const at::NoGradGuard no_grad;
  if (!base.is_safetensors()) {
    fail<FileError>("merge",
                    fmt::format("\"{}\" must hold safetensors, the only format that is written",
                                base.place().string()),
                    "another format");
  }
  const Merge merge(base, adapters, options);
  require_own_names(base);
  const auto files = other_files(merge.base(), merge.unties());
  std::set<std::string> outputs;
  for (const auto& file : base.files()) outputs.insert(file.string());
  for (const auto& file : files) outputs.insert(file.name);
  if (base.is_folder()) outputs.insert(kReportFile);
  if (!options.force) require_free(out, base.is_folder(), outputs);
  CheckpointWriter writer(out, {.is_folder = base.is_folder(),
                                .resume = options.resume,
                                .identity = identity_of(base, adapters, options),
                                .operation = "merge"});
  writer.require_places(base.is_folder() ? outputs : std::set<std::string>());
  MergeWriting writing(merge, options, writer);
  if (!options.subtract) {
    for (const auto i : merge.of_other_bases()) writing.add_other_base(adapters[i]);
  }
  for (size_t i = 0; i < base.files().size(); ++i) writing.write(i);
  for (const auto& file : files) writer.add(file.name, file.content);
  const auto& report = writing.report();
  if (base.is_folder()) writer.add(kReportFile, to_text(to_json(report)) + "\n");
  writer.commit(weights_in(out));
  return report;
}

std::vector<VerifiedTensor> verify_merge(const Checkpoint& base,
                                         const std::vector<fs::path>& adapters,
                                         const Checkpoint& merged,
                                         const CheckpointMergeOptions& options) {
  const at::NoGradGuard no_grad;
  const Merge merge(base, adapters, options);
  std::vector<VerifiedTensor> wrong;
  std::vector<std::string> names;
  for (size_t i = 0; i < base.files().size(); ++i) {
    const auto own = merge.names_in(i);
    names.insert(names.end(), own.begin(), own.end());
  }
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
