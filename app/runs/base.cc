#include "app/runs/base.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>

#include <algorithm>
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

/// The data set to use with this base: `given`, or the one that the base was trained on.
std::string data_for(const Base& base, const std::string& given) {
  if (given.empty()) {
    if (base.model.is_script() && base.data.empty()) {
      fail<ArgumentError>("data", "--data must name the examples for a TorchScript model", "none");
    }
    const auto data = base.data.empty() ? "mnist" : base.data;
    if (exists(DataSource{.data = data})) return data;
    fail<FileError>("data", "the data set that the base was trained on must be where it was",
                    fmt::format("nothing at \"{}\"", data), "Name it with --data.");
  }
  const bool is_divided_set = !base.data.empty() && is_divided(DataSource{.data = base.data});
  if (is_divided_set && named_data(given) != base.data) {
    print_message(fmt::format(
        "warning: the base was trained on {}, not on {}: its figures here say little about it.",
        base.data, given));
  }
  return given;
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
    return outputs.numel() == examples * data.labels[0].numel() ? "" : found;
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

void fit_script(Base& base, Dataset& data) {
  const at::NoGradGuard no_grad;
  const auto examples = std::min<int64_t>(2, data.size());
  const auto inputs = first_inputs(base, data, examples);
  std::string shapes, found;
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
    } catch (const TensorError& error) {
      reason = error.what();
      reason.erase(0, reason.find(". Got ") + 6);
    }
    while (reason.ends_with('.')) reason.pop_back();
    shapes += (shapes.empty() ? "" : " or ") + shape;
    found += fmt::format("{}for {} {}", found.empty() ? "" : ", ", shape, reason);
  }
  const auto wanted = data.classes > 0 ? fmt::format("(N, K) with K of at least {}", data.classes)
                                       : fmt::format("(N, {})", data.labels[0].numel());
  fail<TensorError>(
      "model", fmt::format("the model must map inputs of shape {} to outputs {}", shapes, wanted),
      found);
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
  const auto outputs = data.classes > 0 ? data.classes : data.labels[0].numel();
  const bool fits = data.classes > 0 && !base.preparation.class_names.empty()
                        ? outputs <= sizes.back()
                        : outputs == sizes.back();
  if (sizes.front() == data.values() && fits) return;
  const auto* what = data.classes > 0 ? "classes" : "numbers to predict";
  fail<TensorError>("model",
                    fmt::format("the examples of {} must have the model's {} numbers and {} {}",
                                data.name, sizes.front(), sizes.back(), what),
                    fmt::format("{} and {}", data.values(), outputs));
}

}  // namespace

Base::Base(const TrainedMlp& trained)
    : model(trained.model), preparation(trained.preparation), data(trained.data) {}

void check(const DataOptions& options) {
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
  check(options);
  options.source.data = data_for(base, options.source.data);
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
  const bool is_named = source.label_column != DataSource().label_column;
  if (!is_named && !recorded.label_column.empty()) source.label_column = recorded.label_column;
  if (source.channels == 0 && recorded.height > 0) source.channels = recorded.channels;
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

std::string named_data(const std::string& data) {
  if (data == "mnist") return data;
  auto name = fs::absolute(data).lexically_normal().string();
  return printable(name) == name ? name : std::string();
}

at::Tensor outputs_of(const Base& base, const Dataset& data, const Resources& resources) {
  const auto forward = [&](const at::Tensor& inputs) { return base.model.forward(inputs); };
  auto outputs = compute_outputs(forward, data, base.preparation.normalization, resources.dtype,
                                 resources.device);
  require_finite_outputs(outputs);
  return outputs;
}

void require_finite_outputs(const at::Tensor& outputs) {
  const auto rows = at::isfinite(outputs).logical_not().flatten(1).any(/*dim=*/1);
  const auto broken = rows.sum().item<int64_t>();
  if (broken == 0) return;
  fail<TensorError>("model", "the model's outputs must be finite",
                    fmt::format("NaN or Inf for {} of {} examples", broken, outputs.size(0)),
                    "Its weights are too large for this dtype, or its training diverged.");
}

}  // namespace lowrank::app
