#include "app/images/jpeg.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <array>
#include <csetjmp>
#include <cstdio>
// It needs size_t and FILE.
#include <jpeglib.h>

namespace lowrank::app {
namespace {

/// libjpeg's state, and what it found wrong. libjpeg leaves a decoding by longjmp, so nothing with
/// a destructor may be made between setjmp() and the calls into it.
struct JpegDecoder {
  jpeg_error_mgr errors{};
  jpeg_decompress_struct info{};
  std::jmp_buf leave{};
  std::array<char, JMSG_LENGTH_MAX> message{};

  JpegDecoder() {
    info.err = jpeg_std_error(&errors);
    info.client_data = this;
    errors.error_exit = [](j_common_ptr common) { of(common).stop(common); };
    // Damage that libjpeg would only warn of, such as a file that is cut off.
    errors.emit_message = [](j_common_ptr common, int level) {
      if (level < 0) of(common).stop(common);
    };
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&info); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

 private:
  static JpegDecoder& of(j_common_ptr common) {
    return *static_cast<JpegDecoder*>(common->client_data);
  }
  void stop(j_common_ptr common) {
    errors.format_message(common, message.data());
    std::longjmp(leave, 1);
  }
};

/// Reads the header, and starts decoding to one or three channels. Returns false on failure.
bool start(JpegDecoder& decoder, const std::string& bytes) {
  if (setjmp(decoder.leave) != 0) return false;
  jpeg_create_decompress(&decoder.info);
  jpeg_mem_src(&decoder.info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&decoder.info, TRUE);
  return true;
}

/// Decodes all rows into `to`, row after row. Returns false on failure.
bool decode(JpegDecoder& decoder, J_COLOR_SPACE colours, uint8_t* to) {
  if (setjmp(decoder.leave) != 0) return false;
  auto& info = decoder.info;
  info.out_color_space = colours;
  jpeg_start_decompress(&info);
  const auto stride = static_cast<size_t>(info.output_width) * info.output_components;
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = to + info.output_scanline * stride;
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_finish_decompress(&info);
  return true;
}

[[noreturn]] void fail_jpeg(const JpegDecoder& decoder, const std::string& name) {
  fail<FileError>("image", fmt::format("{} must be an intact JPEG image", name),
                  fmt::format("\"{}\"", decoder.message.data()));
}

}  // namespace

bool is_jpeg(const std::string& bytes) { return bytes.starts_with("\xff\xd8\xff"); }

at::Tensor read_jpeg(const std::string& bytes, ImageChannels channels, const std::string& name) {
  JpegDecoder decoder;
  if (!start(decoder, bytes)) fail_jpeg(decoder, name);
  const auto& info = decoder.info;
  const bool is_gray = info.jpeg_color_space == JCS_GRAYSCALE;
  if (!is_gray && info.jpeg_color_space != JCS_YCbCr && info.jpeg_color_space != JCS_RGB) {
    fail<FileError>("image", fmt::format("{} must be gray or RGB", name),
                    fmt::format("a JPEG image of {} components", info.num_components),
                    "CMYK images must be converted first.");
  }
  check_image_size(info.image_width, info.image_height, name);
  const bool one = channels == ImageChannels::kGray || (channels == ImageChannels::kAny && is_gray);
  // libjpeg makes no gray of RGB; YCbCr holds it as its first component.
  const bool makes_gray = one && info.jpeg_color_space == JCS_RGB;
  const int64_t height = info.image_height, width = info.image_width;
  const int64_t components = one && !makes_gray ? 1 : 3;
  const auto pixels = at::empty({height, width, components}, at::kByte);
  if (!decode(decoder, components == 1 ? JCS_GRAYSCALE : JCS_RGB, pixels.data_ptr<uint8_t>())) {
    fail_jpeg(decoder, name);
  }
  if (makes_gray) return luminance(pixels);
  return components == 1 ? pixels.squeeze(2) : pixels.permute({2, 0, 1}).contiguous();
}

}  // namespace lowrank::app
