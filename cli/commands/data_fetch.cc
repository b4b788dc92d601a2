#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "app/images/mnist_cache.h"
#include "cli/commands/commands.h"

namespace lowrank::cli {
namespace {

using nlohmann::ordered_json;

struct FetchCommand {
  std::string name;
  bool json = false;
  bool quiet = false;
};

ordered_json fetch_json(const app::FetchResult& result) {
  ordered_json files = ordered_json::array();
  for (const auto& file : result.files) {
    files.push_back({{"name", file.path.filename().string()},
                     {"path", file.path.string()},
                     {"sha256", file.sha256},
                     {"source", file.source}});
  }
  return {{"folder", result.folder.string()}, {"files", files}, {"failures", result.failures}};
}

void print_fetched(const app::FetchResult& result) {
  fmt::print("MNIST is in {}\n\n", printable(result.folder.string()));
  fmt::print("{:<28}{:<18}{}\n", "file", "SHA-256", "from");
  for (const auto& file : result.files) {
    fmt::print("{:<28}{:<18}{}\n", file.path.filename().string(), file.sha256.substr(0, 16),
               file.source);
  }
}

void run_fetch(const FetchCommand& options) {
  if (options.name != "mnist") {
    const bool fashion = options.name.find("fashion") != std::string::npos;
    fail<ArgumentError>("data", "the set to fetch must be mnist",
                        fmt::format("\"{}\"", options.name),
                        fashion ? "Debian's package dataset-fashion-mnist puts Fashion-MNIST into "
                                  "/usr/share/datasets/fashion-mnist."
                                : did_you_mean(options.name, {"mnist"}));
  }
  app::FetchOptions fetch;
  if (!options.quiet) fetch.on_step = [](const auto& step) { fmt::print(stderr, "{}\n", step); };
  const app::FetchResult result = app::fetch_mnist(fetch);
  if (!options.quiet) {
    for (const auto& failure : result.failures) fmt::print(stderr, "Failed: {}\n", failure);
  }
  if (options.json) {
    fmt::print("{}\n", to_text(fetch_json(result)));
  } else {
    print_fetched(result);
  }
}

}  // namespace

void add_data_fetch(const Flags& data) {
  auto options = std::make_shared<FetchCommand>();
  const auto fetch = data.command("fetch", "Fetch a data set into the cache folder");
  fetch.option("name", &options->name, "Data set to fetch: mnist").required();
  fetch.flag("--json", options->json, "Print one JSON object instead of text");
  fetch.flag("--quiet", options->quiet, "Print no progress and no notes");
  fetch.footer(
      "The cache folder is $LOWRANK_DATA, else $XDG_CACHE_HOME/lowrank, else\n"
      "~/.cache/lowrank.\n"
      "Files that are there with the right SHA-256 are left alone.\n\n"
      "Examples:\n"
      "  lowrank data fetch mnist\n"
      "  LOWRANK_DATA=/srv/data lowrank data fetch mnist --json");
  fetch.action([options] { run_fetch(*options); });
}

}  // namespace lowrank::cli
