// Covers src/checkpoint and the readers below it: files that were damaged at random.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/checkpoint/checkpoint.h>
#include <lowrank/error.h>
#include <lowrank/io/npy.h>
#include <lowrank/io/safetensors.h>

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "support/gguf_bytes.h"
#include "support/run_command.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;

constexpr int kDamagedFiles = 10'000;  // of each format

/// Changes a few bytes, most of them near the front, or cuts bytes out or puts some in.
std::string damaged(std::string bytes, std::mt19937& random) {
  const auto draw = [&](size_t count) { return random() % std::max<size_t>(1, count); };
  constexpr std::string_view kTelling = "{}[]\":,0123456789-\\\xff\x00\x7f\x80";
  for (size_t changes = 1 + draw(4); changes > 0; --changes) {
    const auto at = draw(draw(3) == 0 ? bytes.size() : std::min<size_t>(bytes.size(), 400));
    switch (draw(6)) {
      case 0:
        bytes.erase(at, 1 + draw(draw(4) == 0 ? bytes.size() : 8));
        break;
      case 1:
        bytes.insert(at, bytes.substr(draw(bytes.size()), 1 + draw(16)));
        break;
      case 2:
        if (at < bytes.size()) bytes[at] = static_cast<char>(random());
        break;
      case 3:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ 1 << draw(8));
        break;
      default:
        if (at < bytes.size()) bytes[at] = kTelling[draw(kTelling.size())];
    }
  }
  return bytes;
}

/// Opens a checkpoint and reads every number of every tensor.
void read_all(const fs::path& place) {
  const auto checkpoint = Checkpoint::open(place);
  for (const auto& name : checkpoint.names()) {
    const auto stored = checkpoint.stored(name);
    const auto tensor = checkpoint.tensor(name);
    EXPECT_EQ(tensor.sizes(), at::IntArrayRef(stored.shape));
    if (tensor.is_floating_point()) (void)tensor.to(at::kDouble).sum().item<double>();
  }
}

/// Writes damaged files of this name, and expects each to be read or refused. `place` is what is
/// opened: the file, or its folder.
void read_damaged(const TemporaryFolder& folder, const std::string& name, const std::string& bytes,
                  const fs::path& place) {
  std::mt19937 random(1);  // NOLINT(bugprone-random-generator-seed): the same files in every run
  int refused = 0;
  for (int i = 0; i < kDamagedFiles; ++i) {
    folder.write(name, damaged(bytes, random));
    try {
      read_all(place);
    } catch (const Error&) {
      ++refused;
    } catch (const std::exception& error) {
      const auto kept = fs::temp_directory_path() / ("lowrank-damaged-" + name);
      fs::copy_file(folder / name, kept, fs::copy_options::overwrite_existing);
      FAIL() << "file " << i << ", kept as " << kept << ": " << error.what();
    }
  }
  EXPECT_GT(refused, kDamagedFiles / 10);
  EXPECT_LT(refused, kDamagedFiles) << "some damage is in the numbers alone";
}

TEST(SlowDamagedFiles, OfSafetensorsAreReadOrRefused) {
  const TemporaryFolder folder;
  const auto file = folder / "a.safetensors";
  write_safetensors(file,
                    {{"linear.weight", at::ones({3, 4})},
                     {"half", at::ones({5}).to(at::kBFloat16)},
                     {"empty", at::empty({0, 2})}},
                    {{"format", "pt"}});
  read_damaged(folder, "a.safetensors", read_bytes(file), file);
}

TEST(SlowDamagedFiles, OfIndicesAreReadOrRefused) {
  const TemporaryFolder folder;
  write_safetensors(folder / "1.safetensors", {{"a", at::ones({3})}});
  write_safetensors(folder / "2.safetensors", {{"b", at::ones({2, 2})}});
  const std::string index =
      R"({"metadata": {"total_size": 28}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})";
  read_damaged(folder, "model.safetensors.index.json", index, folder.path());
}

TEST(SlowDamagedFiles, OfGgufAreReadOrRefused) {
  const TemporaryFolder folder;
  const auto bytes = GgufBytes()
                         .entry("general.architecture", "llama")
                         .entry("llama.attention.head_count", 2U)
                         .entry("llama.attention.head_count_kv", 1U)
                         .tensor("blk.0.attn_q.weight", {4, 32}, 8, std::string(4 * 34, '\1'))
                         .tensor("output_norm.weight", {32}, 0, std::string(128, '\0'))
                         .tensor("token_embd.weight", {3, 32}, 2, std::string(3 * 18, '\2'))
                         .bytes();
  read_damaged(folder, "a.gguf", bytes, folder / "a.gguf");
}

TEST(SlowDamagedFiles, OfNumPyAreReadOrRefused) {
  const TemporaryFolder folder;
  const auto file = folder / "a.npy";
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  header.resize(117, ' ');
  const auto bytes =
      std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + "\n" + std::string(24, '\1');
  read_damaged(folder, "a.npy", bytes, file);
}

}  // namespace
}  // namespace lowrank
