#include "cli/flags/data_flags.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/flags/training_flags.h"

namespace lowrank::cli {

namespace {

constexpr const char* kPlaces =
    "mnist, a folder of images or in MNIST's layout, or a .csv, .npy or .safetensors file";

void add_reading_flags(const Flags& data, app::DataOptions& options) {
  auto& source = options.source;
  data.option("--labels", &source.labels, "The .npy file with the labels of a .npy file")
      .type_name("FILE");
  data.option("--label-column", &source.label_column, "Column of a .csv file with the labels")
      .type_name("NAME")
      .shows_default();
  data.names(
      "--drop-columns",
      [&source](const std::vector<std::string>& names) { source.dropped_columns = names; },
      "Columns of a .csv file that are no inputs");
  data.option("--loss", &options.loss, "cross-entropy for classes, mse for numbers to predict")
      .type_name("NAME")
      .default_text("by the labels");
  data.option("--channels", &source.channels, "Channels of images: 1 (gray) or 3 (RGB)")
      .default_text("as the files");
  data.option("--resize", &source.resize, "Height and width to resize images to").type_name("H,W");
}

}  // namespace

void add_source(const Flags& flags, app::DataOptions& options) {
  flags.option("data", &options.source.data, fmt::format("The examples: {}", kPlaces))
      .type_name("PLACE")
      .required();
  add_reading_flags(flags.under("Data"), options);
}

void add_data_flags(const Flags& flags, app::DataOptions& options, const char* default_data) {
  const auto data = flags.under("Data");
  data.option("--data", &options.source.data, fmt::format("The examples: {}", kPlaces))
      .type_name("PLACE")
      .default_text(default_data);
  add_reading_flags(data, options);
  data.option("--mean", &options.mean, "Mean that is subtracted from the inputs, one or several")
      .type_name("X,...")
      .default_text("the base's");
  data.option("--deviation", &options.deviation, "Deviation that inputs are divided by, likewise")
      .type_name("X,...")
      .default_text("the base's");
}

void restore_data(const Flags& flags, app::DataOptions& options,
                  const nlohmann::ordered_json& run) {
  auto& source = options.source;
  const auto restore = [&](const char* flag, auto& field, const char* name) {
    restore_unless_given(flags, flag, field, run.value(name, nlohmann::ordered_json()));
  };
  restore_unless_given(flags, "--data", source.data, run.at("data"));
  restore("--labels", source.labels, "labels");
  restore("--label-column", source.label_column, "label_column");
  restore("--drop-columns", source.dropped_columns, "drop_columns");
  restore("--loss", options.loss, "loss");
  restore("--channels", source.channels, "channels");
  restore("--resize", source.resize, "resize");
}

}  // namespace lowrank::cli
