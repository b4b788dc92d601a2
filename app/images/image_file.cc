#include "app/images/image_file.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/file_bytes.h>
#include <png.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "app/images/jpeg.h"

namespace lowrank::app {
namespace {

constexpr const char* kImageFile = "image";
constexpr uint64_t kMostBytes = uint64_t{256} << 20;
constexpr int64_t kMostPixels = int64_t{64} << 20;
constexpr int64_t kMostSize = int64_t{1} << 24;
constexpr std::string_view kPngSignature = "\x89PNG\r\n\x1a\n";

/// An image of libpng's simplified interface. It frees its memory also when an error is thrown.
struct PngImage {
  png_image image{};
  PngImage() { image.version = PNG_IMAGE_VERSION; }
  ~PngImage() { png_image_free(&image); }
  PngImage(const PngImage&) = delete;
  PngImage& operator=(const PngImage&) = delete;

  void require(int succeeded, const std::string& name) const {
    if (succeeded != 0) return;
    fail<FileError>(kImageFile, fmt::format("{} must be an intact PNG image", name),
                    fmt::format("\"{}\"", image.message));
  }
};

/// Puts pixels (H, W, colours and alpha) on white, as image viewers and Pillow do: (H, W, colours).
at::Tensor on_white(const at::Tensor& pixels) {
  const auto alpha = pixels.slice(2, -1).to(at::kInt);
  const auto colours = pixels.slice(2, 0, -1).to(at::kInt);
  const auto sum = colours * alpha + 255 * (255 - alpha);
  return (sum + 127).div(255, "floor").to(at::kByte);
}

/// Returns a PNG file without its gAMA chunks. libpng would change the pixels by them, which
/// neither Pillow nor torchvision does. (A chunk is its length in 4 bytes, its name in 4, its data
/// and a checksum of 4: PNG specification, section 5.3.)
std::string without_gamma(const std::string& png) {
  std::string kept = png.substr(0, kPngSignature.size());
  for (size_t at = kept.size(); at < png.size();) {
    uint64_t length = 0;
    for (size_t i = at; i < std::min(at + 4, png.size()); ++i) {
      length = length << 8 | static_cast<unsigned char>(png[i]);
    }
    const auto size = static_cast<size_t>(std::min<uint64_t>(length + 12, png.size() - at));
    const bool is_gamma = png.size() - at >= 8 && png.compare(at + 4, 4, "gAMA") == 0;
    if (!is_gamma) kept.append(png, at, size);
    at += size;
  }
  return kept;
}

at::Tensor read_png(const std::string& file, ImageChannels channels, const std::string& name) {
  const auto bytes = without_gamma(file);
  PngImage reader;
  reader.require(png_image_begin_read_from_memory(&reader.image, bytes.data(), bytes.size()), name);
  check_image_size(reader.image.width, reader.image.height, name);
  const bool is_gray = (reader.image.format & PNG_FORMAT_FLAG_COLOR) == 0;
  const bool one = channels == ImageChannels::kGray || (channels == ImageChannels::kAny && is_gray);
  // Pixels of 16 bits have the same curve as those of 8, which libpng would take for linear light.
  reader.image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
  const int64_t colours = is_gray ? 1 : 3, values = colours + 1;
  reader.image.format = is_gray ? PNG_FORMAT_GA : PNG_FORMAT_RGBA;
  at::Tensor pixels = at::empty({reader.image.height, reader.image.width, values}, at::kByte);
  reader.require(png_image_finish_read(&reader.image, /*background=*/nullptr,
                                       pixels.data_ptr<uint8_t>(), /*row_stride=*/0,
                                       /*colormap=*/nullptr),
                 name);
  pixels = on_white(pixels);
  if (is_gray) {
    const auto gray = pixels.squeeze(2);
    return one ? gray : gray.expand({3, -1, -1}).contiguous();
  }
  return one ? luminance(pixels) : pixels.permute({2, 0, 1}).contiguous();
}

/// Reads a PGM file from start to end (netpbm's pgm(5)).
class PgmReader {
 public:
  PgmReader(std::string_view bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}

  at::Tensor read() {
    const bool plain = bytes_[1] == '2';
    at_ = 2;
    const int64_t width = number(kMostSize, "a width");
    const int64_t height = number(kMostSize, "a height");
    const int64_t most = number(65535, "a largest value");
    check_image_size(width, height, name_);
    if (most == 0) fail_content("a largest value of 1 to 65535", "0");
    const int64_t count = width * height;
    require_length(plain, plain ? 2 * count : 1 + count * (most < 256 ? 1 : 2));
    at::Tensor pixels = at::empty({height, width}, at::kByte);
    if (!plain) ++at_;  // the one blank after the header
    auto* values = pixels.data_ptr<uint8_t>();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t value = plain ? number(most, "a value") : binary_value(most);
      values[i] = static_cast<uint8_t>((value * 255 + most / 2) / most);
    }
    if (plain) require_end();
    return pixels;
  }

 private:
  [[noreturn]] void fail_content(const std::string& required, const std::string& found) const {
    fail<FileError>(kImageFile, fmt::format("{} must hold {}", name_, required), found,
                    "The file is damaged or is not a PGM image.");
  }

  /// Checks what follows the header: one blank and the binary values, or for each ASCII value at
  /// least one blank and one digit. So a short file cannot ask for a lot of memory.
  void require_length(bool plain, int64_t needed) const {
    const auto left = static_cast<int64_t>(bytes_.size() - at_);
    if (left == needed || (plain && left > needed)) return;
    fail_content(fmt::format("{}{} bytes after its header", plain ? "at least " : "", needed),
                 fmt::format("{}", left));
  }

  void skip_blanks() {
    while (at_ < bytes_.size()) {
      if (bytes_[at_] == '#') {
        at_ = std::min(bytes_.find('\n', at_), bytes_.size());
      } else if (std::string_view(" \t\r\n\v\f").find(bytes_[at_]) == std::string_view::npos) {
        return;
      } else {
        ++at_;
      }
    }
  }

  int64_t number(int64_t most, const char* what) {
    skip_blanks();
    const size_t begin = at_;
    int64_t value = 0;
    for (; at_ < bytes_.size() && bytes_[at_] >= '0' && bytes_[at_] <= '9'; ++at_) {
      value = std::min<int64_t>(value * 10 + (bytes_[at_] - '0'), int64_t{1} << 40);
    }
    const std::string required = fmt::format("{} of 0 to {} at byte {}", what, most, begin);
    if (begin == bytes_.size()) fail_content(required, "the end of the file");
    if (begin == at_) fail_content(required, fmt::format("the byte {:02x}", byte(begin)));
    if (value > most) fail_content(required, std::string(bytes_.substr(begin, at_ - begin)));
    return value;
  }

  unsigned byte(size_t i) const { return static_cast<unsigned char>(bytes_[i]); }

  int64_t binary_value(int64_t most) {
    int64_t value = byte(at_++);
    if (most >= 256) value = value << 8 | byte(at_++);
    if (value > most) {
      fail_content(fmt::format("a value of 0 to {} before byte {}", most, at_),
                   fmt::format("{}", value));
    }
    return value;
  }

  void require_end() {
    skip_blanks();
    if (at_ != bytes_.size()) {
      fail_content("nothing after its pixels", fmt::format("{} bytes", bytes_.size() - at_));
    }
  }

  std::string_view bytes_;
  std::string name_;
  size_t at_ = 0;
};

std::string first_bytes(const std::string& bytes) {
  if (bytes.empty()) return "an empty file";
  std::string text = "a file that begins with";
  for (size_t i = 0; i < std::min<size_t>(4, bytes.size()); ++i) {
    text += fmt::format(" {:02x}", static_cast<unsigned char>(bytes[i]));
  }
  return text;
}

}  // namespace

void check_image_size(int64_t width, int64_t height, const std::string& name) {
  if (width > 0 && height > 0 && width <= kMostSize && height <= kMostSize &&
      width * height <= kMostPixels) {
    return;
  }
  fail<FileError>(kImageFile, fmt::format("{} must have 1 to {} pixels", name, kMostPixels),
                  fmt::format("{} x {}", width, height));
}

at::Tensor luminance(const at::Tensor& pixels) {
  const auto weights = at::tensor({19595, 38470, 7471}, at::kInt);  // of 2^16
  const auto sum = (pixels.to(at::kInt) * weights).sum(-1, /*keepdim=*/false, at::kInt);
  return (sum + (1 << 15)).div(1 << 16, "floor").to(at::kByte);
}

at::Tensor read_image(const std::filesystem::path& path, ImageChannels channels) {
  const std::string name = path.string();
  const std::string bytes = read_file(path, kMostBytes);
  if (bytes.starts_with(kPngSignature)) return read_png(bytes, channels, name);
  if (is_jpeg(bytes)) return read_jpeg(bytes, channels, name);
  if (bytes.starts_with("P2") || bytes.starts_with("P5")) {
    const auto gray = PgmReader(bytes, name).read();
    return channels == ImageChannels::kRgb ? gray.expand({3, -1, -1}).contiguous() : gray;
  }
  fail<FileError>(kImageFile, fmt::format("{} must be a PNG, JPEG or PGM (P2, P5) image", name),
                  first_bytes(bytes));
}

std::string png_bytes(const at::Tensor& image) {
  const bool is_gray = image.dim() == 2;
  const auto pixels = (is_gray ? image : image.permute({1, 2, 0})).contiguous();
  PngImage writer;
  writer.image.width = static_cast<png_uint_32>(pixels.size(1));
  writer.image.height = static_cast<png_uint_32>(pixels.size(0));
  writer.image.format = is_gray ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  const auto* values = pixels.data_ptr<uint8_t>();
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(writer.image);
  std::string bytes(size, '\0');
  writer.require(png_image_write_to_memory(&writer.image, bytes.data(), &size,
                                           /*convert_to_8bit=*/0, values, /*row_stride=*/0,
                                           /*colormap=*/nullptr),
                 "the image");
  bytes.resize(size);
  return bytes;
}

}  // namespace lowrank::app
