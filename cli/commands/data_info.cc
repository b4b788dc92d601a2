#include <fmt/format.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "app/images/dataset.h"
#include "app/runs/resources.h"
#include "cli/commands/commands.h"

namespace lowrank::cli {
namespace {

using nlohmann::ordered_json;

struct DataInfoCommand {
  std::string name;
  bool json = false;
};

ordered_json half_json(const app::ImageDataset& half) {
  const app::Normalization pixels = pixel_statistics(half);
  return {{"images", half.size()},         {"height", half.images.size(1)},
          {"width", half.images.size(2)},  {"mean", pixels.mean},
          {"deviation", pixels.deviation}, {"class_counts", app::class_counts(half)}};
}

void print_half(const char* name, const app::ImageDataset& half) {
  const app::Normalization pixels = pixel_statistics(half);
  fmt::print("{:<8}{:>8}{:>10}{:>10.4f}{:>11.4f}\n", name, half.size(),
             fmt::format("{} x {}", half.images.size(1), half.images.size(2)), pixels.mean,
             pixels.deviation);
}

void print_counts(const app::ImageDataset& train, const app::ImageDataset& test) {
  const auto in_train = app::class_counts(train);
  const auto in_test = app::class_counts(test);
  fmt::print("\n{:<8}{:>8}{:>10}\n", "class", "train", "test");
  for (size_t i = 0; i < in_train.size(); ++i) {
    fmt::print("{:<8}{:>8}{:>10}\n", i, in_train[i], in_test[i]);
  }
}

void run_info(const DataInfoCommand& options) {
  app::apply_common_options({});
  const app::ImageDataset train = app::load_image_dataset(options.name, app::Split::kTrain);
  const app::ImageDataset test = app::load_image_dataset(options.name, app::Split::kTest);
  if (options.json) {
    const ordered_json info = {{"name", train.name},
                               {"classes", train.classes},
                               {"train", half_json(train)},
                               {"test", half_json(test)}};
    fmt::print("{}\n", to_text(info));
    return;
  }
  fmt::print("{}: {} classes\n\n", printable(train.name), train.classes);
  fmt::print("{:<8}{:>8}{:>10}{:>10}{:>11}\n", "split", "images", "pixels", "mean", "deviation");
  print_half("train", train);
  print_half("test", test);
  print_counts(train, test);
}

}  // namespace

void add_data_info(const Flags& data) {
  auto options = std::make_shared<DataInfoCommand>();
  const auto info = data.command("info", "Show sizes, classes and pixel statistics");
  info.option("data", &options->name, "Data set: mnist, or a folder in MNIST's layout").required();
  info.flag("--json", options->json, "Print one JSON object instead of text");
  info.footer(
      "Examples:\n"
      "  lowrank data info mnist\n"
      "  lowrank data info /usr/share/datasets/fashion-mnist --json");
  info.action([options] { run_info(*options); });
}

}  // namespace lowrank::cli
