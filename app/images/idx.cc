#include "app/images/idx.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <vector>

#include "app/images/input_file.h"

namespace lowrank::app {
namespace {

constexpr const char* kIdxFile = "idx";
constexpr int kIdxDimensions = 8;
/// Three times the largest data set in this layout (EMNIST). A small gzip file may claim more.
constexpr uint64_t kMostIdxValues = uint64_t{1} << 31;
constexpr uint8_t kUnsignedByte = 0x08;

std::string type_name(uint8_t code) {
  switch (code) {
    case 0x09:
      return "int8 (type code 0x09)";
    case 0x0B:
      return "int16 (type code 0x0b)";
    case 0x0C:
      return "int32 (type code 0x0c)";
    case 0x0D:
      return "float32 (type code 0x0d)";
    case 0x0E:
      return "float64 (type code 0x0e)";
    default:
      return fmt::format("the unknown type code 0x{:02x}", code);
  }
}

std::string shape_name(const std::vector<int64_t>& sizes) {
  return fmt::format("{}", fmt::join(sizes, " x "));
}

void read_header(InputFile& file, const std::string& name, uint8_t* to, size_t bytes) {
  const size_t got = file.read(to, bytes);
  if (got == bytes) return;
  fail<FileError>(kIdxFile, fmt::format("{} must begin with a complete IDX header", name),
                  "a file that ends within it", "The file is truncated; fetch or copy it again.");
}

size_t checked_dimensions(const std::array<uint8_t, 4>& magic, const std::string& name) {
  if (magic[0] != 0 || magic[1] != 0) {
    fail<FileError>(kIdxFile,
                    fmt::format("{} must be an IDX file, which begins with the bytes 00 00", name),
                    fmt::format("{:02x} {:02x}", magic[0], magic[1]));
  }
  if (magic[2] != kUnsignedByte) {
    fail<FileError>(kIdxFile, fmt::format("{} must hold uint8 values (type code 0x08)", name),
                    type_name(magic[2]));
  }
  if (magic[3] < 1 || magic[3] > kIdxDimensions) {
    fail<FileError>(kIdxFile, fmt::format("{} must have 1 to {} dimensions", name, kIdxDimensions),
                    fmt::format("{}", magic[3]));
  }
  return magic[3];
}

std::vector<int64_t> read_sizes(InputFile& file, const std::string& name, size_t dimensions) {
  std::array<uint8_t, size_t{4} * kIdxDimensions> bytes{};
  read_header(file, name, bytes.data(), 4 * dimensions);
  std::vector<int64_t> sizes(dimensions);
  for (size_t i = 0; i < dimensions; ++i) {
    const uint8_t* at = bytes.data() + 4 * i;
    sizes[i] = int64_t{at[0]} << 24 | int64_t{at[1]} << 16 | int64_t{at[2]} << 8 | int64_t{at[3]};
  }
  return sizes;
}

/// Returns the number of values, which have one byte each. The check counts empty dimensions as 1,
/// because strides are products of the other dimensions.
uint64_t checked_count(const std::vector<int64_t>& sizes, const std::string& name) {
  constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  uint64_t product = 1;
  bool empty = false;
  for (const int64_t size : sizes) {
    const auto factor = static_cast<uint64_t>(std::max<int64_t>(size, 1));
    if (product > kMost / factor) {
      fail<FileError>(kIdxFile, fmt::format("{} must have sizes that fit into memory", name),
                      shape_name(sizes));
    }
    product *= factor;
    empty = empty || size == 0;
  }
  return empty ? 0 : product;
}

void fail_length(const std::string& name, const std::vector<int64_t>& sizes, uint64_t required,
                 const std::string& found, bool truncated) {
  fail<FileError>(kIdxFile,
                  fmt::format("{} must hold {} bytes after its header, which says {}", name,
                              required, shape_name(sizes)),
                  found,
                  truncated ? "The file is truncated; fetch or copy it again."
                            : "Something was added to the file, or its header is damaged.");
}

}  // namespace

at::Tensor read_idx(const std::filesystem::path& path) {
  const std::string name = path.string();
  InputFile file(path, kIdxFile);
  std::array<uint8_t, 4> magic{};
  read_header(file, name, magic.data(), magic.size());
  const auto sizes = read_sizes(file, name, checked_dimensions(magic, name));
  const uint64_t count = checked_count(sizes, name);

  const uint64_t header = magic.size() + 4 * sizes.size();
  const uint64_t most = file.most_bytes() < header ? 0 : file.most_bytes() - header;
  if (count > most) {
    fail_length(name, sizes, count,
                file.compressed() ? fmt::format("a gzip file too small to hold more than {}", most)
                                  : fmt::format("{}", most),
                /*truncated=*/true);
  }
  if (!file.compressed() && count < most) {
    fail_length(name, sizes, count, fmt::format("{}", most), /*truncated=*/false);
  }

  if (count > kMostIdxValues) {
    fail<FileError>(kIdxFile, fmt::format("{} must hold at most {} values", name, kMostIdxValues),
                    shape_name(sizes));
  }

  at::Tensor values = at::empty(sizes, at::kByte);
  const size_t got = file.read(values.data_ptr<uint8_t>(), count);
  if (got < count) fail_length(name, sizes, count, fmt::format("{}", got), /*truncated=*/true);
  uint8_t beyond = 0;
  if (file.read(&beyond, 1) != 0) {
    fail_length(name, sizes, count, "more", /*truncated=*/false);
  }
  return values;
}

}  // namespace lowrank::app
