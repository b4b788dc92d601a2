#include <fmt/format.h>
#include <lowrank/data/dataset.h>
#include <lowrank/data/mnist.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "commands.h"

namespace lowrank::cli {
namespace {

using nlohmann::ordered_json;

struct DataOptions {
  std::string name;
  bool json = false;
  bool quiet = false;
};

ordered_json fetch_json(const FetchResult& result) {
  ordered_json files = ordered_json::array();
  for (const auto& file : result.files) {
    files.push_back({{"name", file.path.filename().string()},
                     {"path", file.path.string()},
                     {"sha256", file.sha256},
                     {"source", file.source}});
  }
  return {{"folder", result.folder.string()}, {"files", files}, {"failures", result.failures}};
}

void print_fetched(const FetchResult& result) {
  fmt::print("MNIST is in {}\n\n", result.folder.string());
  fmt::print("{:<28}{:<18}{}\n", "file", "SHA-256", "from");
  for (const auto& file : result.files) {
    fmt::print("{:<28}{:<18}{}\n", file.path.filename().string(), file.sha256.substr(0, 16),
               file.source);
  }
}

void run_fetch(const DataOptions& options) {
  if (options.name != "mnist") {
    const bool fashion = options.name.find("fashion") != std::string::npos;
    fail<ArgumentError>("data", "the set to fetch must be mnist",
                        fmt::format("\"{}\"", options.name),
                        fashion ? "Debian's package dataset-fashion-mnist puts Fashion-MNIST into "
                                  "/usr/share/datasets/fashion-mnist."
                                : did_you_mean(options.name, {"mnist"}));
  }
  FetchOptions fetch;
  if (!options.quiet) fetch.on_step = [](const auto& step) { fmt::print(stderr, "{}\n", step); };
  const FetchResult result = fetch_mnist(fetch);
  if (!options.quiet) {
    for (const auto& failure : result.failures) fmt::print(stderr, "Passed over: {}\n", failure);
  }
  if (options.json) {
    fmt::print("{}\n", to_text(fetch_json(result)));
  } else {
    print_fetched(result);
  }
}

ordered_json half_json(const ImageDataset& half) {
  const Normalization pixels = pixel_statistics(half);
  return {{"images", half.size()},         {"height", half.images.size(1)},
          {"width", half.images.size(2)},  {"mean", pixels.mean},
          {"deviation", pixels.deviation}, {"class_counts", class_counts(half)}};
}

void print_half(const char* name, const ImageDataset& half) {
  const Normalization pixels = pixel_statistics(half);
  fmt::print("{:<8}{:>8}{:>10}{:>10.4f}{:>11.4f}\n", name, half.size(),
             fmt::format("{} x {}", half.images.size(1), half.images.size(2)), pixels.mean,
             pixels.deviation);
}

void print_counts(const ImageDataset& train, const ImageDataset& test) {
  const auto in_train = class_counts(train);
  const auto in_test = class_counts(test);
  fmt::print("\n{:<8}{:>8}{:>10}\n", "class", "train", "test");
  for (size_t i = 0; i < in_train.size(); ++i) {
    fmt::print("{:<8}{:>8}{:>10}\n", i, in_train[i], in_test[i]);
  }
}

void run_info(const DataOptions& options) {
  const ImageDataset train = load_image_dataset(options.name, Split::kTrain);
  const ImageDataset test = load_image_dataset(options.name, Split::kTest);
  if (options.json) {
    const ordered_json info = {{"name", train.name},
                               {"classes", train.classes},
                               {"train", half_json(train)},
                               {"test", half_json(test)}};
    fmt::print("{}\n", to_text(info));
    return;
  }
  fmt::print("{}: {} classes\n\n", train.name, train.classes);
  fmt::print("{:<8}{:>8}{:>10}{:>10}{:>11}\n", "half", "images", "pixels", "mean", "deviation");
  print_half("train", train);
  print_half("test", test);
  print_counts(train, test);
}

void add_fetch(const Flags& data) {
  auto options = std::make_shared<DataOptions>();
  const auto fetch = data.command("fetch", "Get a data set into the cache folder");
  fetch.option("name", &options->name, "The set: mnist").required();
  fetch.flag("--json", options->json, "Print one JSON object instead of text");
  fetch.flag("--quiet", options->quiet, "No progress, no notes");
  fetch.footer(
      "The cache folder is $LOWRANK_DATA, else $XDG_CACHE_HOME/lowrank, else ~/.cache/lowrank.\n"
      "Files that are there with the right SHA-256 are left alone.\n\n"
      "Examples:\n"
      "  lowrank data fetch mnist\n"
      "  LOWRANK_DATA=/srv/data lowrank data fetch mnist --json");
  fetch.action([options] { run_fetch(*options); });
}

void add_data_info(const Flags& data) {
  auto options = std::make_shared<DataOptions>();
  const auto info = data.command("info", "Sizes, classes and pixel statistics of a data set");
  info.option("data", &options->name, "mnist, or a folder in MNIST's layout").required();
  info.flag("--json", options->json, "Print one JSON object instead of text");
  info.footer(
      "Examples:\n"
      "  lowrank data info mnist\n"
      "  lowrank data info /usr/share/datasets/fashion-mnist --json");
  info.action([options] { run_info(*options); });
}

}  // namespace

void add_data(const Flags& flags) {
  const auto data = flags.command("data", "Get and look at data sets");
  data.require_command();
  data.footer(
      "Examples:\n"
      "  lowrank data fetch mnist\n"
      "  lowrank data info /usr/share/datasets/fashion-mnist");
  add_fetch(data);
  add_data_info(data);
}

}  // namespace lowrank::cli
