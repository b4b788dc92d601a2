#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "support/expect_error.h"
#include "support/safetensors_bytes.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;
using Metadata = std::map<std::string, std::string>;

/// Returns one entry of every dtype, with odd sizes, an empty tensor and a scalar.
std::vector<SafetensorsEntry> every_kind() {
  std::vector<SafetensorsEntry> entries = {{"scalar", at::tensor(2.5F).squeeze()},
                                           {"empty", at::empty({0, 3}, at::kFloat)}};
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                           at::kShort, at::kChar, at::kByte, at::kBool}) {
    entries.push_back({c10::toString(dtype), at::arange(-3, 4).to(dtype).view({7, 1})});
  }
  return entries;
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  const TemporaryFolder folder;
  const fs::path path = folder / "a file with spaces.safetensors";
  const Metadata metadata = {{"format", "pt"}, {"note", "a \"quoted\"\nline, ünïcode"}};
  write_safetensors(path, every_kind(), metadata);

  const auto file = SafetensorsFile::open(path);
  EXPECT_EQ(file.path(), path);
  EXPECT_EQ(file.metadata(), metadata);
  EXPECT_EQ(file.names().size(), every_kind().size());
  for (const auto& [name, expected, none] : every_kind()) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(file.contains(name));
    const at::Tensor read = file.tensor(name);
    EXPECT_EQ(read.scalar_type(), expected.scalar_type());
    EXPECT_EQ(read.sizes(), expected.sizes());
    EXPECT_TRUE(at::equal(read, expected));
  }
  EXPECT_FALSE(file.contains("other"));
}

/// If the work were quadratic in the number of tensors, this test would take minutes.
TEST(Safetensors, TakesTensorsByTheTenThousands) {
  const TemporaryFolder folder;
  std::vector<SafetensorsEntry> entries;
  for (int i = 0; i < 50'000; ++i) {
    entries.push_back({fmt::format("layers.{}.weight", i), at::full({1}, i)});
  }
  write_safetensors(folder / "many", entries);
  const auto file = SafetensorsFile::open(folder / "many");
  EXPECT_EQ(file.names().size(), entries.size());
  EXPECT_EQ(file.tensor("layers.49999.weight").item<float>(), 49999);
}

TEST(Safetensors, BytesAreThoseOfTheReferenceImplementation) {
  // safetensors.torch.save of version 0.8.0 gives this header for the same tensors.
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("i64":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
                             R"("f64":{"dtype":"F64","shape":[1],"data_offsets":[8,16]},)"
                             R"("a":{"dtype":"F32","shape":[1,1],"data_offsets":[16,20]},)"
                             R"("b":{"dtype":"F32","shape":[1,1],"data_offsets":[20,24]},)"
                             R"("i32":{"dtype":"I32","shape":[1],"data_offsets":[24,28]},)"
                             R"("bf16":{"dtype":"BF16","shape":[1],"data_offsets":[28,30]},)"
                             R"("f16":{"dtype":"F16","shape":[1],"data_offsets":[30,32]},)"
                             R"("i16":{"dtype":"I16","shape":[1],"data_offsets":[32,34]},)"
                             R"("i8":{"dtype":"I8","shape":[1],"data_offsets":[34,35]},)"
                             R"("u8":{"dtype":"U8","shape":[1],"data_offsets":[35,36]},)"
                             R"("bool":{"dtype":"BOOL","shape":[],"data_offsets":[36,37]}})";
  std::vector<SafetensorsEntry> entries = {{"b", at::zeros({1, 1})},
                                           {"a", at::zeros({1, 1})},
                                           {"bool", at::zeros({}, at::kBool)},
                                           {"i64", at::zeros({1}, at::kLong)},
                                           {"f64", at::zeros({1}, at::kDouble)},
                                           {"i32", at::zeros({1}, at::kInt)},
                                           {"bf16", at::zeros({1}, at::kBFloat16)},
                                           {"f16", at::zeros({1}, at::kHalf)},
                                           {"i16", at::zeros({1}, at::kShort)},
                                           {"i8", at::zeros({1}, at::kChar)},
                                           {"u8", at::zeros({1}, at::kByte)}};
  const std::string bytes = serialize_safetensors(entries, {{"format", "pt"}});
  const std::string padding((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(bytes.substr(8), header + padding + std::string(37, '\0'));
  EXPECT_EQ(static_cast<unsigned char>(bytes[0]) + 256 * static_cast<unsigned char>(bytes[1]),
            header.size() + padding.size());

  std::reverse(entries.begin(), entries.end());
  EXPECT_EQ(serialize_safetensors(entries, {{"format", "pt"}}), bytes);
}

TEST(Safetensors, NothingIsAFileToo) {
  const TemporaryFolder folder;
  write_safetensors(folder / "empty", {});
  EXPECT_EQ(read_bytes(folder / "empty"), safetensors_bytes("{}      ", 0));
  EXPECT_TRUE(SafetensorsFile::open(folder / "empty").names().empty());
}

TEST(Safetensors, TensorsAreTheMappingOutliveTheFileObjectAndNeverChangeTheFile) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", {{"a", at::ones({1000})}});
  const std::string before = read_bytes(folder / "f");
  at::Tensor first;
  at::Tensor second;
  {
    const auto file = SafetensorsFile::open(folder / "f");
    first = file.tensor("a");
    second = file.tensor("a");
  }
  EXPECT_EQ(first.data_ptr(), second.data_ptr());
  first.fill_(7);
  EXPECT_EQ(second.sum().item<float>(), 7000);
  EXPECT_EQ(read_bytes(folder / "f"), before);
  EXPECT_EQ(SafetensorsFile::open(folder / "f").tensor("a").sum().item<float>(), 1000);

  write_safetensors(folder / "f", {{"a", at::zeros({2})}});
  EXPECT_EQ(second.sum().item<float>(), 7000);
}

TEST(Safetensors, AViewIsWrittenAsItsOwnElements) {
  const TemporaryFolder folder;
  const at::Tensor base = at::arange(12, at::kFloat).view({3, 4});
  const at::Tensor negated = at::imag(at::conj(at::complex(base, base)));
  ASSERT_TRUE(negated.is_neg());
  write_safetensors(folder / "f", {{"transposed", base.t()},
                                   {"slice", base.slice(1, 1, 3).requires_grad_()},
                                   {"expanded", base[0].expand({2, 4})},
                                   {"negated", negated}});
  const auto file = SafetensorsFile::open(folder / "f");
  EXPECT_TRUE(at::equal(file.tensor("transposed"), base.t()));
  EXPECT_TRUE(at::equal(file.tensor("slice"), base.slice(1, 1, 3)));
  EXPECT_TRUE(at::equal(file.tensor("expanded"), base[0].expand({2, 4})));
  EXPECT_TRUE(at::equal(file.tensor("negated"), -base));
  EXPECT_FALSE(file.tensor("slice").requires_grad());
}

TEST(Safetensors, MisalignedDataIsUsable) {
  const TemporaryFolder folder;
  const std::string header = R"({"u":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                             R"("f":{"dtype":"F64","shape":[2],"data_offsets":[1,17]}})";
  std::string bytes = safetensors_bytes(header, 17);
  const double values[] = {1.5, -2.5};
  std::memcpy(bytes.data() + 8 + header.size() + 1, values, sizeof(values));
  const auto file = SafetensorsFile::open(folder.write("f", bytes));
  const at::Tensor read = file.tensor("f");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(read.data_ptr()) % alignof(double), 0);
  EXPECT_EQ(read[0].item<double>(), 1.5);
  EXPECT_EQ(read[1].item<double>(), -2.5);
}

TEST(Safetensors, TheWriterRefusesWhatItCannotWrite) {
  const at::Tensor a = at::ones({2});
  LOWRANK_EXPECT_ERROR(
      serialize_safetensors({{"a", a}, {"b", a}, {"a", a}}), ArgumentError,
      "[safetensors] the names of the tensors in one file must differ. Got \"a\" twice.");
  LOWRANK_EXPECT_ERROR(serialize_safetensors({{"__metadata__", a}}), ArgumentError,
                       "must not be one that the format reserves. Got \"__metadata__\".");
  LOWRANK_EXPECT_ERROR(serialize_safetensors({{"a", at::Tensor()}}), TensorError,
                       "tensor \"a\" must be a dense tensor with data. Got an undefined tensor.");
  LOWRANK_EXPECT_ERROR(serialize_safetensors({{"a", a.to_sparse()}}), TensorError,
                       "tensor \"a\" must be a dense tensor with data. Got a sparse");
  LOWRANK_EXPECT_ERROR(serialize_safetensors({{"a", at::ones({2}, at::kMeta)}}), TensorError,
                       "Got one on the meta device.");
  LOWRANK_EXPECT_ERROR(serialize_safetensors({{"a", at::complex(a, a)}}), TensorError,
                       "tensor \"a\" must have a dtype that safetensors knows. Got ComplexFloat.");
  LOWRANK_EXPECT_ERROR(serialize_safetensors({{"\xff", a}}), TensorError, "must be valid UTF-8");
  LOWRANK_EXPECT_ERROR(serialize_safetensors({{"a", a}}, {{"k", "\xff"}}), TensorError,
                       "must be valid UTF-8");
}

TEST(Safetensors, ARefusedWriteLeavesTheOldFile) {
  const TemporaryFolder folder;
  folder.write("f", "old");
  EXPECT_THROW(write_safetensors(folder / "f", {{"a", at::Tensor()}}), TensorError);
  EXPECT_EQ(read_bytes(folder / "f"), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

TEST(Safetensors, AnUnknownNameIsRefusedWithTheNearest) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", {{"linear1.weight", at::ones({2})}});
  const auto file = SafetensorsFile::open(folder / "f");
  LOWRANK_EXPECT_ERROR(file.tensor("linear1.weigth"), FileError,
                       "Got \"linear1.weigth\". Did you mean \"linear1.weight\"?");
  LOWRANK_EXPECT_ERROR(file.tensor("x"), FileError, "Got \"x\". It holds linear1.weight.");
}

/// A file with random damage is either read or refused with a FileError.
TEST(Safetensors, DamagedFilesNeverCrash) {
  const TemporaryFolder folder;
  const std::string good = serialize_safetensors(every_kind(), {{"format", "pt"}});
  std::mt19937 random(0);
  const auto below = [&](size_t limit) { return random() % limit; };
  int refused = 0;
  int readable = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string bytes = good;
    for (size_t changes = 1 + below(3); changes > 0; --changes) {
      // Half of the time a character of JSON's syntax in the header, otherwise any byte anywhere.
      const bool syntax = below(2) == 0;
      const size_t position = below(syntax ? 900 : bytes.size());
      bytes[position] = syntax ? "0123456789[]{},:\"-e."[below(20)] : static_cast<char>(below(256));
    }
    if (below(8) == 0) bytes.resize(below(bytes.size()));
    try {
      const auto file = SafetensorsFile::open(folder.write("f", bytes));
      for (const auto& name : file.names()) {
        EXPECT_FALSE(file.tensor(name).to(at::kDouble).sum().item<double>() == 1e300);
      }
      ++readable;
    } catch (const FileError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(readable, 100);
}

}  // namespace
}  // namespace lowrank
