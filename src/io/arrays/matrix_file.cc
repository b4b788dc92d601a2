#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/matrix_file.h>
#include <lowrank/io/npy.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/io/text_matrix.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <vector>

#include "io/files/system_file.h"

namespace lowrank {
namespace {

std::string lower_extension(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return extension;
}

at::Tensor read_from_safetensors(const std::filesystem::path& path,
                                 const std::optional<std::string>& tensor) {
  const auto file = SafetensorsFile::open(path);
  if (tensor) return file.tensor(*tensor);
  std::vector<std::string> matrices;
  for (const auto& name : file.names()) {
    if (file.tensor(name).dim() == 2) matrices.push_back(name);
  }
  if (matrices.size() == 1) return file.tensor(matrices.front());
  if (matrices.empty()) {
    fail<FileError>(
        "matrix file", fmt::format("{} must hold a two-dimensional tensor", io::quoted(path)),
        file.names().empty() ? "no tensors"
                             : "only tensors of other shapes: " + list_names(file.names()));
  }
  fail<ArgumentError>(
      "matrix file",
      fmt::format("one tensor of {} must be named, as it holds several matrices", io::quoted(path)),
      "no name",
      fmt::format("Name one (the command by --tensor): there are {}.", list_names(matrices)));
}

/// Refuses common files of other formats, and says what to do with them.
void refuse_foreign(const std::filesystem::path& path, const std::string& extension) {
  static constexpr std::array<std::string_view, 6> kPickles = {".pt",   ".pth", ".bin",
                                                               ".ckpt", ".pkl", ".pickle"};
  const auto required =
      fmt::format("{} must be a .npy, .safetensors or text file", io::quoted(path));
  if (std::find(kPickles.begin(), kPickles.end(), extension) != kPickles.end()) {
    fail<FileError>("matrix file", required, fmt::format("\"{}\"", extension),
                    "Such files may be pickles, which are never executed: save as safetensors.");
  }
  if (extension == ".npz") {
    fail<FileError>("matrix file", required, "\".npz\"", "Save its array alone, with numpy.save.");
  }
}

}  // namespace

at::Tensor read_matrix(const std::filesystem::path& path,
                       const std::optional<std::string>& tensor) {
  const std::string extension = lower_extension(path);
  if (extension == ".safetensors") return read_from_safetensors(path, tensor);
  if (tensor) {
    fail<ArgumentError>("matrix file", "only a .safetensors file has tensors with names",
                        fmt::format("{} for {}", io::quoted(*tensor), io::quoted(path)));
  }
  if (extension == ".npy") return read_npy(path);
  refuse_foreign(path, extension);
  return read_text_matrix(path);
}

}  // namespace lowrank
