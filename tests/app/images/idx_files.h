#pragma once

#include <zlib.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "support/temporary_folder.h"

namespace lowrank::app {

/// Returns the bytes of an IDX file: the header for these sizes, then `values`.
inline std::string idx_bytes(const std::vector<uint32_t>& sizes, std::string_view values,
                             char type = 0x08) {
  std::string bytes = {0, 0, type, static_cast<char>(sizes.size())};
  for (const uint32_t size : sizes) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(size >> shift & 0xff);
  }
  return bytes.append(values);
}

/// Returns `content` compressed with gzip.
inline std::string gzip_bytes(std::string_view content) {
  z_stream stream{};
  if (deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::runtime_error("deflateInit2 failed");
  }
  std::string out(deflateBound(&stream, content.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  if (deflate(&stream, Z_FINISH) != Z_STREAM_END) throw std::runtime_error("deflate failed");
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

/// Writes the four files of a set with `count` images of 2 x 3 pixels in each half. Image i has the
/// pixels 6i, 6i + 1, ... (modulo 256) and the label i modulo 10.
inline void write_small_set(const TemporaryFolder& folder, uint32_t count) {
  std::string pixels;
  std::string labels;
  for (uint32_t i = 0; i < count; ++i) {
    labels += static_cast<char>(i % 10);
    for (uint32_t p = 0; p < 6; ++p) pixels += static_cast<char>((6 * i + p) % 256);
  }
  for (const std::string half : {"train", "t10k"}) {
    folder.write(half + "-images-idx3-ubyte", idx_bytes({count, 2, 3}, pixels));
    folder.write(half + "-labels-idx1-ubyte", idx_bytes({count}, labels));
  }
}

}  // namespace lowrank::app
