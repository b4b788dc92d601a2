#include "app/data/preparation.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace lowrank::app {
namespace {

using Path = std::filesystem::path;

[[noreturn]] void fail_entry(const Path& file, const std::string& required,
                             const std::string& found) {
  fail<FileError>("load", fmt::format("\"{}\" must hold {}", file.string(), required), found);
}

std::optional<std::vector<double>> read_numbers(const nlohmann::json& json, const std::string& name,
                                                const Path& file) {
  const auto it = json.find(name);
  if (it == json.end()) return std::nullopt;
  const auto list = it->is_array() ? *it : nlohmann::json::array({*it});
  const auto is_finite = [](const nlohmann::json& number) {
    return number.is_number() && std::isfinite(number.get<double>());
  };
  if (list.empty() || !std::all_of(list.begin(), list.end(), is_finite)) {
    fail_entry(file, fmt::format("a finite number {}, or a list of them", name), it->dump());
  }
  return list.get<std::vector<double>>();
}

std::vector<std::string> read_names(const nlohmann::json& json, const char* name, int64_t count,
                                    const Path& file) {
  const auto it = json.find(name);
  if (it == json.end()) return {};
  const auto is_text = [](const nlohmann::json& entry) { return entry.is_string(); };
  const bool is_list = it->is_array() && std::all_of(it->begin(), it->end(), is_text);
  if (!is_list || (count > 0 && static_cast<int64_t>(it->size()) != count)) {
    fail_entry(file,
               count > 0 ? fmt::format("{}, a list of {} names", name, count)
                         : fmt::format("{}, a list of names", name),
               is_list ? fmt::format("{} names", it->size()) : it->dump());
  }
  return it->get<std::vector<std::string>>();
}

/// Returns an empty text if there is none.
std::string read_text(const nlohmann::json& json, const char* name, const Path& file) {
  const auto it = json.find(name);
  if (it == json.end()) return {};
  if (!it->is_string()) fail_entry(file, fmt::format("a string as {}", name), it->dump());
  return it->get<std::string>();
}

/// Reads the channels, height and width of images, whose product must be the number of inputs.
void read_image_size(Preparation& preparation, const nlohmann::json& json, int64_t inputs,
                     const Path& file) {
  const auto height = json.find("image_height"), width = json.find("image_width"),
             channels = json.find("image_channels");
  if (height == json.end() && width == json.end()) return;
  constexpr int64_t kMostPixels = int64_t{64} << 20;
  const auto fits = [&](const auto& size) {
    return size != json.end() && size->is_number_integer() && *size >= 1 && *size <= kMostPixels;
  };
  const bool are_numbers =
      fits(height) && fits(width) && (channels == json.end() || fits(channels));
  if (are_numbers) {
    preparation.height = height->template get<int64_t>();
    preparation.width = width->template get<int64_t>();
    preparation.channels = channels == json.end() ? 1 : channels->template get<int64_t>();
    const auto product = static_cast<double>(preparation.height) *
                         static_cast<double>(preparation.width) *
                         static_cast<double>(preparation.channels);
    if (inputs == 0 || product == static_cast<double>(inputs)) return;
  }
  const auto text = [&](const auto& size) { return size == json.end() ? "none" : size->dump(); };
  fail_entry(file,
             fmt::format("image_height and image_width{} whose product is {}",
                         channels == json.end() ? "" : ", and image_channels,",
                         inputs > 0 ? fmt::format("{}", inputs) : "a number of pixels"),
             fmt::format("{} and {}{}", text(height), text(width),
                         channels == json.end() ? "" : ", " + channels->dump()));
}

void check_normalization(const Preparation& preparation, int64_t inputs, const Path& file) {
  const auto fits = [&](const std::vector<double>& list) {
    const auto entries = static_cast<int64_t>(list.size());
    return entries == 1 ||
           (preparation.takes_images ? entries == std::max<int64_t>(preparation.channels, 1)
                                     : inputs == 0 || entries == inputs);
  };
  if (!fits(preparation.normalization.mean) || !fits(preparation.normalization.deviation)) {
    fail_entry(file, "one mean and deviation, or one for each channel or input",
               fmt::format("{} and {}", preparation.normalization.mean.size(),
                           preparation.normalization.deviation.size()));
  }
  try {
    check(preparation.normalization);
  } catch (const ArgumentError& error) {
    throw FileError(fmt::format("{} (in \"{}\")", error.what(), file.string()));
  }
}

}  // namespace

nlohmann::ordered_json one_or_all(const std::vector<double>& numbers) {
  return numbers.size() == 1 ? nlohmann::ordered_json(numbers.front())
                             : nlohmann::ordered_json(numbers);
}

Preparation preparation_of(const Dataset& data, const Normalization& normalization) {
  return {.normalization = normalization,
          .takes_images = data.holds_images(),
          .channels = data.channels(),
          .height = data.height(),
          .width = data.width(),
          .class_names = data.class_names,
          .columns = data.columns,
          .label_column = data.label_column,
          .has_classes = data.classes > 0};
}

void add_preparation(nlohmann::ordered_json& json, const Preparation& preparation) {
  const std::string kind = preparation.takes_images ? "image" : "input";
  json[kind + "_mean"] = one_or_all(preparation.normalization.mean);
  json[kind + "_deviation"] = one_or_all(preparation.normalization.deviation);
  if (preparation.height > 0) {
    json["image_height"] = preparation.height;
    json["image_width"] = preparation.width;
    if (preparation.channels > 1) json["image_channels"] = preparation.channels;
  }
  if (!preparation.class_names.empty()) json["class_names"] = preparation.class_names;
  if (!preparation.columns.empty()) json["columns"] = preparation.columns;
  if (!preparation.label_column.empty()) json["label_column"] = preparation.label_column;
  if (!preparation.has_classes) json["task"] = "regression";
  if (preparation.is_resized) json["image_resize"] = true;
  if (!preparation.data.empty()) json["data"] = preparation.data;
  if (!preparation.labels.empty()) json["labels"] = preparation.labels;
}

Preparation read_preparation(const nlohmann::json& json, int64_t inputs, int64_t outputs,
                             const Path& file) {
  Preparation preparation;
  preparation.takes_images = !json.contains("input_mean") && !json.contains("columns");
  const std::string kind = preparation.takes_images ? "image" : "input";
  auto& normalization = preparation.normalization;
  normalization.mean = read_numbers(json, kind + "_mean", file).value_or(normalization.mean);
  normalization.deviation =
      read_numbers(json, kind + "_deviation", file).value_or(normalization.deviation);
  if (preparation.takes_images) read_image_size(preparation, json, inputs, file);
  preparation.class_names = read_names(json, "class_names", outputs, file);
  preparation.columns = read_names(json, "columns", inputs, file);
  preparation.label_column = read_text(json, "label_column", file);
  preparation.data = read_text(json, "data", file);
  preparation.labels = read_text(json, "labels", file);
  if (const auto resize = json.find("image_resize"); resize != json.end()) {
    if (!resize->is_boolean()) fail_entry(file, "true or false as image_resize", resize->dump());
    preparation.is_resized = resize->get<bool>();
  }
  if (const auto task = json.find("task"); task != json.end()) {
    if (*task != "regression") fail_entry(file, "task \"regression\", or none", task->dump());
    preparation.has_classes = false;
  }
  check_normalization(preparation, inputs, file);
  return preparation;
}

}  // namespace lowrank::app
