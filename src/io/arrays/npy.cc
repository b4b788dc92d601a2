#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>
#include <lowrank/io/atomic_file.h>
#include <lowrank/io/npy.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "io/arrays/npy_header.h"
#include "io/dense_bytes.h"
#include "io/files/system_file.h"

namespace lowrank {
namespace {

static_assert(std::endian::native == std::endian::little, "big-endian data is swapped on reading");

/// Reads up to `count` bytes at `offset`; fewer only at the end of the file.
size_t read_at(const io::ReadableFile& file, const std::filesystem::path& path, uint64_t offset,
               char* bytes, size_t count) {
  size_t filled = 0;
  while (filled < count) {
    const ssize_t got = ::pread(file.descriptor.number(), bytes + filled, count - filled,
                                static_cast<off_t>(offset + filled));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      fail<FileError>("npy", fmt::format("the file {} must be readable", io::quoted(path)),
                      io::quoted(io::system_error_text(errno)));
    }
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  return filled;
}

[[noreturn]] void fail_length(const std::filesystem::path& path, uint64_t required,
                              uint64_t found) {
  fail<FileError>("npy",
                  fmt::format("{} must be {} long, as its header says", io::quoted(path),
                              io::count_bytes(required)),
                  io::count_bytes(found),
                  found < required ? "The file is cut short."
                                   : "Something follows the array, which is not read.");
}

/// The dtype that the file's bytes are read into. Unsigned numbers are read as signed ones first.
at::ScalarType stored_dtype(const io::NpyHeader& header) {
  if (header.kind == 'b' || (header.kind == 'u' && header.item_size == 1)) return at::kByte;
  const bool real = header.kind == 'f';
  switch (header.item_size) {
    case 1:
      return at::kChar;
    case 2:
      return real ? at::kHalf : at::kShort;
    case 4:
      return real ? at::kFloat : at::kInt;
    default:
      return real ? at::kDouble : at::kLong;
  }
}

void swap_bytes(char* bytes, size_t count, size_t item_size) {
  for (size_t i = 0; i < count; ++i)
    std::reverse(bytes + i * item_size, bytes + (i + 1) * item_size);
}

at::Tensor widened(const io::NpyHeader& header, const at::Tensor& stored,
                   const std::filesystem::path& path) {
  if (header.kind == 'b') return stored.ne(0);
  if (header.kind != 'u' || header.item_size == 1) return stored;
  if (header.item_size == 2) return stored.to(at::kInt).bitwise_and(0xFFFF);
  if (header.item_size == 4) return stored.to(at::kLong).bitwise_and(int64_t{0xFFFFFFFF});
  if (stored.numel() > 0 && stored.min().item<int64_t>() < 0) {
    fail<FileError>("npy", fmt::format("the uint64 numbers of {} must fit int64", io::quoted(path)),
                    "a larger one");
  }
  return stored;
}

std::string header_of(const at::Tensor& tensor, std::string_view descr) {
  const auto sizes = tensor.sizes();
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}",
                                 descr, fmt::join(sizes, ", "), sizes.size() == 1 ? "," : "");
  text.append(63 - (10 + text.size()) % 64, ' ');  // the data starts at a multiple of 64
  text += '\n';
  std::string bytes = "\x93NUMPY\x01";
  bytes += '\0';
  bytes += static_cast<char>(text.size() & 0xFF);
  bytes += static_cast<char>(text.size() >> 8);
  return bytes + text;
}

std::string_view descr_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kHalf:
      return "<f2";
    case at::kFloat:
      return "<f4";
    case at::kDouble:
      return "<f8";
    case at::kChar:
      return "|i1";
    case at::kShort:
      return "<i2";
    case at::kInt:
      return "<i4";
    case at::kLong:
      return "<i8";
    case at::kByte:
      return "|u1";
    case at::kBool:
      return "|b1";
    default:
      fail<TensorError>("npy", "a tensor must have a real dtype that NumPy knows",
                        c10::toString(dtype));
  }
}

}  // namespace

at::Tensor read_npy(const std::filesystem::path& path) {
  const io::ReadableFile file = io::open_for_reading(path, "npy");
  std::string text(io::kNpyPreludeBytes, '\0');
  text.resize(read_at(file, path, 0, text.data(), text.size()));
  const auto prelude = io::parse_npy_prelude(text, path);
  const uint64_t data = prelude.begin + prelude.length;
  if (file.size < data) fail_length(path, data, file.size);
  text.resize(prelude.length);
  text.resize(read_at(file, path, prelude.begin, text.data(), text.size()));
  const auto header = io::parse_npy_header(text, path);

  const auto length = static_cast<uint64_t>(header.count) * static_cast<uint64_t>(header.item_size);
  if (file.size - data != length) fail_length(path, data + length, file.size);
  auto shape = header.shape;
  if (header.fortran_order) std::reverse(shape.begin(), shape.end());
  const auto stored = at::empty(shape, stored_dtype(header));
  auto* bytes = static_cast<char*>(stored.data_ptr());
  if (const auto got = read_at(file, path, data, bytes, length); got < length) {
    fail_length(path, data + length, data + got);
  }
  if (header.big_endian) {
    swap_bytes(bytes, static_cast<size_t>(header.count), static_cast<size_t>(header.item_size));
  }
  const auto tensor = widened(header, stored, path);
  if (!header.fortran_order) return tensor;
  std::vector<int64_t> axes(shape.size());
  for (size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<int64_t>(axes.size() - 1 - i);
  return tensor.permute(axes);
}

std::string serialize_npy(const at::Tensor& tensor) {
  const auto dense = io::to_contiguous_cpu(tensor, "npy", "the tensor");
  std::string bytes = header_of(dense, descr_of(dense.scalar_type()));
  bytes += io::bytes_of(dense);
  return bytes;
}

void write_npy(const std::filesystem::path& path, const at::Tensor& tensor) {
  write_file_atomically(path, serialize_npy(tensor));
}

}  // namespace lowrank
