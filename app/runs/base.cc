#include "app/runs/base.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "app/runs/unfinished.h"
#include "app/terminal/message.h"
#include "app/train/evaluate.h"

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCrossEntropy = "cross-entropy";
constexpr const char* kMse = "mse";

/// Throws FileError for weights that the dtype of the run cannot hold.
void convert(const Base& base, const fs::path& place, const Resources& resources) {
  const auto before = base.model.named_parameters();
  std::vector<at::ScalarType> dtypes;
  for (const auto& [name, tensor] : before) dtypes.push_back(tensor.scalar_type());
  base.model.to(resources.device, resources.dtype);
  const auto after = base.model.named_parameters();
  for (size_t i = 0; i < after.size(); ++i) {
    const auto& [name, tensor] = after[i];
    if (dtypes[i] == tensor.scalar_type() || at::isfinite(tensor).all().item<bool>()) continue;
    fail<FileError>("load",
                    fmt::format("\"{}\" in \"{}\" must be finite as {}", name, place.string(),
                                c10::toString(resources.dtype)),
                    "numbers that are too large for it", "Pass --dtype float64.");
  }
}

/// Puts the data set that the base, or the adapter, was trained on into the options.
void take_own_data(DataSource& source, const Base& base) {
  const auto& own = base.preparation;
  if (base.model.is_script() && own.data.empty()) {
    fail<ArgumentError>("data", "--data must name the examples for a TorchScript model", "none");
  }
  source.data = own.data.empty() ? "mnist" : own.data;
  if (source.labels.empty()) source.labels = own.labels;
  if (exists(source)) return;
  fail<FileError>("data", "the data set that the model was trained on must be where it was",
                  fmt::format("nothing at \"{}\"", source.data), "Name it with --data.");
}

/// MNIST and the sets in its layout have the same shapes and other classes. Whoever trained on
/// images or tables of their own names others in order to test on them.
void warn_of_other_data(const Base& base, const DataSource& given) {
  const auto& own = base.preparation.data;
  if (own.empty() || base.model.is_script() || named_data(given.data) == own) return;
  if (!is_in_mnist_layout(DataSource{.data = own})) return;
  print_message(fmt::format(
      "warning: the base was trained on {}, not on {}: its figures here say little about it.", own,
      given.data));
}

/// Throws ArgumentError if columns were named for data that have none.
void require_table_for_columns(const DataSource& source) {
  if (source.data.empty() || fs::path(source.data).extension() == ".csv") return;
  const bool names_labels = source.label_column != DataSource().label_column;
  if (!names_labels && source.dropped_columns.empty()) return;
  fail<ArgumentError>("data",
                      fmt::format("{} must be given for a .csv file alone",
                                  names_labels ? "--label-column" : "--drop-columns"),
                      fmt::format("\"{}\"", source.data));
}

/// Throws ArgumentError if an input of the model is to be dropped.
void require_own_columns(const DataSource& source, const std::vector<std::string>& columns) {
  for (const auto& name : source.dropped_columns) {
    if (std::find(columns.begin(), columns.end(), name) == columns.end()) continue;
    fail<ArgumentError>("data", "--drop-columns must leave the columns that the model knows",
                        fmt::format("\"{}\"", name));
  }
}

/// Throws ArgumentError if other numbers were given than are recorded with the base or the adapter.
void require_recorded(const char* flag, const std::vector<double>& given,
                      const std::vector<double>& recorded, const Base& base) {
  if (given.empty() || !base.is_prepared || given == recorded) return;
  fail<ArgumentError>(
      "data",
      fmt::format("{} must be {}, as in training, or be left out", flag, fmt::join(recorded, ",")),
      fmt::format("{}", fmt::join(given, ",")));
}

std::string shape_with_batch(const std::vector<int64_t>& shape) {
  return fmt::format("(N, {})", fmt::join(shape, ", "));
}

/// The shapes in which models take such examples, the usual one first.
std::vector<InputLayout> layouts_of(const Dataset& data, const Normalization& normalization) {
  const std::vector<int64_t> flat = {data.values()};
  if (data.holds_images()) {
    std::vector<InputLayout> layouts = {{{data.channels(), data.height(), data.width()}}, {flat}};
    if (data.channels() == 1) layouts.push_back({{data.height(), data.width()}});
    return layouts;
  }
  const auto own = data.inputs.sizes().slice(1).vec();
  std::vector<InputLayout> layouts;
  const bool are_ids = data.holds_whole_numbers && normalization == Normalization{{0}, {1}};
  if (are_ids) layouts.push_back({own, /*is_whole=*/true});
  layouts.push_back({own});
  if (own.size() > 1) layouts.push_back({flat});
  return layouts;
}

/// Says what is wrong with outputs of this shape for two examples; nothing if they fit.
std::string misfit(const at::Tensor& outputs, const Dataset& data, int64_t examples) {
  const auto found = fmt::format("outputs of shape ({})", fmt::join(outputs.sizes(), ", "));
  if (!outputs.is_floating_point()) return "outputs that are no floating-point numbers";
  if (outputs.dim() == 0 || outputs.size(0) != examples) return found;
  if (data.classes == 0) {
    const bool fits = !data.has_labels || outputs.numel() == examples * data.labels[0].numel();
    return fits ? "" : found;
  }
  return outputs.dim() == 2 && outputs.size(1) >= data.classes ? "" : found;
}

/// What is tried to find a model's layout.
at::Tensor first_inputs(const Base& base, const Dataset& data, int64_t examples) {
  const auto parameters = base.model.named_parameters();
  const auto like =
      parameters.empty() ? at::TensorOptions(at::kFloat) : parameters.front().second.options();
  const auto dtype = c10::typeMetaToScalarType(like.dtype());
  return batch_inputs(data, at::arange(examples, at::kLong), base.preparation.normalization,
                      at::isFloatingType(dtype) ? dtype : at::kFloat)
      .to(like.device());
}

/// Buffers that a model writes to, such as a count of its calls, have their old values again when
/// this goes.
class RestoredBuffers {
 public:
  explicit RestoredBuffers(const BaseModel& model) : buffers_(model.named_buffers()) {
    for (auto& [name, tensor] : buffers_) before_.push_back(tensor.clone());
  }
  ~RestoredBuffers() {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < before_.size(); ++i) {
      if (buffers_[i].second.sizes() == before_[i].sizes()) buffers_[i].second.copy_(before_[i]);
    }
  }
  RestoredBuffers(const RestoredBuffers&) = delete;
  RestoredBuffers& operator=(const RestoredBuffers&) = delete;

 private:
  std::vector<std::pair<std::string, at::Tensor>> buffers_;
  std::vector<at::Tensor> before_;
};

/// Says what is probably wrong with labels that do not fit a model of `outputs` outputs for each
/// example.
std::string hint_on_labels(const Dataset& data, int64_t outputs) {
  const auto& labels = data.labels;
  if (data.classes == outputs + 1 && labels.min().item<int64_t>() == 1) {
    return fmt::format("The labels run from 1 to {}: classes are counted from 0.", outputs);
  }
  if (data.classes > 0 && outputs == 1) return "If it predicts a number, pass --loss mse.";
  const bool is_one_number = data.classes == 0 && labels.numel() == data.size();
  if (is_one_number && outputs > 1 && labels.eq(labels.floor()).all().item<bool>()) {
    return "If the labels are classes, pass --loss cross-entropy.";
  }
  return "";
}

/// LibTorch's message says neither which token id is too large nor how many the embedding has.
void explain_ids(std::string& reason, const at::Tensor& ids) {
  if (reason.find("out of range") == std::string::npos) return;
  reason = fmt::format("numbers of {} to {}, of which its embedding lacks some",
                       ids.min().item<double>(), ids.max().item<double>());
}

void fit_script(Base& base, Dataset& data) {
  const at::NoGradGuard no_grad;
  const auto examples = std::min<int64_t>(2, data.size());
  const auto inputs = first_inputs(base, data, examples);
  const RestoredBuffers buffers(base.model);
  std::string shapes, found, hint;
  for (const auto& layout : layouts_of(data, base.preparation.normalization)) {
    base.model.set_layout(layout);
    const auto shape = shape_with_batch(layout.shape) + (layout.is_whole ? " of int64" : "");
    std::string reason;
    try {
      const auto outputs = base.model.forward(inputs);
      reason = misfit(outputs, data, examples);
      if (reason.empty()) {
        if (data.classes > 0) data.classes = outputs.size(1);
        return;
      }
      if (outputs.dim() == 2) hint = hint_on_labels(data, outputs.size(1));
    } catch (const TensorError& error) {
      reason = error.what();
      reason.erase(0, reason.find(". Got ") + 6);
      if (layout.is_whole) explain_ids(reason, inputs);
    }
    while (reason.ends_with('.')) reason.pop_back();
    shapes += (shapes.empty() ? "" : " or ") + shape;
    found += fmt::format("{}for {} {}", found.empty() ? "" : ", ", shape, reason);
  }
  const bool is_scaled = base.preparation.normalization != Normalization{{0}, {1}};
  if (hint.empty() && data.holds_whole_numbers && is_scaled) {
    hint = "If the inputs are token ids, leave out --mean and --deviation.";
  }
  const auto wanted = data.classes > 0 ? fmt::format("(N, K) with K of at least {}", data.classes)
                                       : fmt::format("(N, {})", data.labels[0].numel());
  fail<TensorError>(
      "model", fmt::format("the model must map inputs of shape {} to outputs {}", shapes, wanted),
      found, hint);
}

void require_image_size(const Preparation& made_for, const Dataset& data) {
  if (made_for.height == 0 || !data.holds_images() ||
      (data.height() == made_for.height && data.width() == made_for.width &&
       data.channels() == made_for.channels)) {
    return;
  }
  fail<TensorError>(
      "model",
      fmt::format("the images must have {} x {} x {} numbers, as those that the model was trained "
                  "on",
                  made_for.channels, made_for.height, made_for.width),
      fmt::format("{} x {} x {}", data.channels(), data.height(), data.width()),
      fmt::format("Pass --resize {},{}.", made_for.height, made_for.width));
}

void fit_mlp(const Base& base, const Dataset& data) {
  const auto& sizes = base.model.mlp()->options().sizes;
  const auto outputs = !data.has_labels   ? sizes.back()
                       : data.classes > 0 ? data.classes
                                          : data.labels[0].numel();
  const bool fits = data.classes > 0 && !base.preparation.class_names.empty()
                        ? outputs <= sizes.back()
                        : outputs == sizes.back();
  if (sizes.front() == data.values() && fits) return;
  const auto* what = data.classes > 0 ? "classes" : "numbers to predict";
  fail<TensorError>("model",
                    fmt::format("the examples of {} must have the model's {} numbers and {} {}",
                                data.name, sizes.front(), sizes.back(), what),
                    fmt::format("{} and {}", data.values(), outputs),
                    hint_on_labels(data, sizes.back()));
}

}  // namespace

Base::Base(const TrainedMlp& trained) : model(trained.model), preparation(trained.preparation) {}

void check(const DataOptions& options) {
  require_table_for_columns(options.source);
  if (options.loss.empty() || options.loss == kCrossEntropy || options.loss == kMse) return;
  fail<ArgumentError>("data", fmt::format("--loss must be {} or {}", kCrossEntropy, kMse),
                      fmt::format("\"{}\"", options.loss),
                      did_you_mean(options.loss, {kCrossEntropy, kMse}));
}

DataSource source_of(const DataOptions& options) {
  auto source = options.source;
  source.predicts_numbers = options.loss == kMse;
  source.needs_classes = options.loss == kCrossEntropy;
  return source;
}

void add_data_options(nlohmann::ordered_json& json, const DataOptions& options) {
  const auto& source = options.source;
  json["data"] = source.data;
  if (!source.labels.empty()) json["labels"] = source.labels;
  if (source.label_column != DataSource().label_column) json["label_column"] = source.label_column;
  if (!source.dropped_columns.empty()) json["drop_columns"] = source.dropped_columns;
  if (!options.loss.empty()) json["loss"] = options.loss;
  if (source.channels != 0) json["channels"] = source.channels;
  if (!source.resize.empty()) json["resize"] = source.resize;
  if (!options.mean.empty()) json["mean"] = options.mean;
  if (!options.deviation.empty()) json["deviation"] = options.deviation;
}

Base load_base(const fs::path& place, const Resources& resources) {
  require_finished(place);
  Base base;
  if (std::error_code none; fs::is_directory(place, none)) {
    base = load_mlp(place);
  } else {
    base.model = BaseModel::from_script(place);
    base.preparation.normalization = {{0}, {1}};
    base.is_prepared = false;
  }
  convert(base, place, resources);
  return base;
}

void take_preparation(Base& base, const fs::path& adapter) {
  const auto file = adapter / "training.json";
  if (std::error_code none; base.is_prepared || !fs::exists(file, none)) return;
  const auto training = read_json_file(file);
  const auto found = training.find("preparation");
  if (found == training.end()) return;
  base.preparation = read_preparation(*found, /*inputs=*/0, /*outputs=*/0, file);
  base.is_prepared = true;
}

DataSource complete(DataOptions& options, Base& base) {
  if (options.source.data.empty()) {
    take_own_data(options.source, base);
  } else {
    require_exists(options.source);
    warn_of_other_data(base, options.source);
  }
  return as_recorded(options, base);
}

DataSource as_recorded(const DataOptions& options, Base& base) {
  check(options);
  auto source = source_of(options);
  auto& normalization = base.preparation.normalization;
  require_recorded("--mean", options.mean, normalization.mean, base);
  require_recorded("--deviation", options.deviation, normalization.deviation, base);
  if (!options.mean.empty()) normalization.mean = options.mean;
  if (!options.deviation.empty()) normalization.deviation = options.deviation;
  check(normalization);
  if (!base.is_prepared) return source;
  const auto& recorded = base.preparation;
  if (!options.loss.empty() && (options.loss == kMse) == recorded.has_classes) {
    fail<ArgumentError>("data",
                        fmt::format("--loss must be left out for a base that was trained with {}",
                                    recorded.has_classes ? kCrossEntropy : kMse),
                        options.loss);
  }
  source.predicts_numbers = !recorded.has_classes;
  source.class_names = recorded.class_names;
  source.columns = recorded.columns;
  require_own_columns(source, recorded.columns);
  const bool is_named = source.label_column != DataSource().label_column;
  if (!is_named && !recorded.label_column.empty()) source.label_column = recorded.label_column;
  if (source.channels == 0 && recorded.height > 0) source.channels = recorded.channels;
  if (source.resize.empty() && recorded.is_resized) {
    source.resize = {recorded.height, recorded.width};
  }
  return source;
}

void fit(Base& base, Dataset& data) {
  require_fit(base.preparation.normalization, data);
  if (base.is_prepared) require_image_size(base.preparation, data);
  if (base.model.is_script()) {
    fit_script(base, data);
  } else {
    fit_mlp(base, data);
    if (data.classes > 0) data.classes = base.model.mlp()->options().sizes.back();
  }
}

std::string checksum(const Dataset& data) {
  uLong sum = crc32(0, nullptr, 0);
  for (const auto& tensor : {data.inputs.contiguous(), data.labels.contiguous()}) {
    sum = crc32_z(sum, static_cast<const Bytef*>(tensor.data_ptr()), tensor.nbytes());
  }
  return fmt::format("{:08x}", sum);
}

void require_same_examples(const nlohmann::ordered_json& identity, const Dataset& data) {
  const auto held = identity.value("examples", std::string());
  const auto found = checksum(data);
  if (held == found) return;
  fail<FileError>("resume", "the examples must be those that the run was started with",
                  fmt::format("others in {} (checksum {} in place of {})", data.name, found, held),
                  "Put the old ones back, or start anew with --force.");
}

void note_normalization(const Base& base, const Dataset& data, const DataOptions& options) {
  if (base.is_prepared) return;
  const bool has_mean = !options.mean.empty(), has_deviation = !options.deviation.empty();
  const bool is_table = !data.columns.empty();
  if (!has_mean && !has_deviation && (data.holds_images() || is_table)) {
    print_message(fmt::format(
        "note: neither --mean nor --deviation was given, so the model gets {}. If it was trained "
        "on others, give its own.",
        is_table ? "the numbers as they stand in the table" : "pixels of 0 to 1"));
  }
  if (has_mean != has_deviation) {
    print_message(has_mean ? "note: --mean was given without --deviation, so nothing is divided."
                           : "note: --deviation was given without --mean, so nothing is "
                             "subtracted.");
  }
  const auto is_of_bytes = [](double mean) { return std::abs(mean) > 1; };
  if (data.holds_images() && std::any_of(options.mean.begin(), options.mean.end(), is_of_bytes)) {
    print_message(
        "note: pixels are divided by 255 before --mean is subtracted, so that it is usually 0 to "
        "1. Divide yours, and --deviation, by 255 if they are for pixels of 0 to 255.");
  }
}

Preparation preparation_of(const Dataset& data, const Normalization& normalization,
                           const DataOptions& options) {
  auto preparation = preparation_of(data, normalization);
  preparation.data = named_data(options.source.data);
  if (!options.source.labels.empty()) preparation.labels = named_data(options.source.labels);
  preparation.is_resized = !options.source.resize.empty();
  return preparation;
}

std::string named_data(const std::string& data) {
  if (data == "mnist") return data;
  auto name = fs::absolute(data).lexically_normal().string();
  return printable(name) == name ? name : std::string();
}

at::Tensor outputs_of(const Base& base, const Dataset& data, const Resources& resources) {
  const auto forward = [&](const at::Tensor& inputs) { return base.model.forward(inputs); };
  auto outputs = compute_outputs(forward, data, base.preparation.normalization, resources.dtype,
                                 resources.device);
  require_finite_outputs(outputs, base.model);
  return outputs;
}

void require_finite_outputs(const at::Tensor& outputs, const BaseModel& model) {
  const auto rows = at::isfinite(outputs).logical_not().flatten(1).any(/*dim=*/1);
  const auto broken = rows.sum().item<int64_t>();
  if (broken == 0) return;
  std::string hint = "Its weights or inputs are too large for this dtype.";
  for (const auto& [name, tensor] : model.named_parameters()) {
    if (at::isfinite(tensor).all().item<bool>()) continue;
    hint = fmt::format("Its parameter \"{}\" holds NaN or Inf.", name);
    break;
  }
  fail<TensorError>("model", "the model's outputs must be finite",
                    fmt::format("NaN or Inf for {} of {} examples", broken, outputs.size(0)), hint);
}

}  // namespace lowrank::app
