#include "app/models/script_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/version.h>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

const std::string kFixtures = std::string(LOWRANK_FIXTURES) + "/";

TEST(ScriptFile, LoadsWhatTorchJitSaves) {
  for (const char* name : {"scripted.pt", "traced.pt", "encoder_scripted.pt", "experts.pt"}) {
    EXPECT_NO_THROW(load_script(kFixtures + name)) << name;
  }
}

TEST(ScriptFile, RefusesWhatIsNoTorchScript) {
  const TemporaryFolder folder;
  LOWRANK_EXPECT_ERROR(load_script(folder.write("a.pt", "text")), FileError,
                       "Got a file that is not a zip archive.");
  LOWRANK_EXPECT_ERROR(load_script("/dev/zero"), FileError, "Got a pipe or device.");
  const auto bytes = read_bytes(kFixtures + "scripted.pt");
  LOWRANK_EXPECT_ERROR(load_script(folder.write("cut.pt", bytes.substr(0, bytes.size() / 2))),
                       FileError, "failed finding central directory. torch.jit.script");
}

TEST(ScriptFile, NamesWhatANewerLibTorchHas) {
  LOWRANK_EXPECT_ERROR(load_script(kFixtures + "unknown_operator.pt"), FileError,
                       "unknown_operator.pt\" must be written for LibTorch " TORCH_VERSION
                       " or older. Got the operator aten::relu_of_tomorrow, which this LibTorch "
                       "does not have. Save it with an older PyTorch");
}

TEST(ScriptFile, RefusesSparseTensors) {
  const TemporaryFolder folder;
  torch::jit::Module module("m");
  module.register_parameter("weight", at::eye(3).to_sparse(), /*is_buffer=*/false);
  module.define("def forward(self, x):\n  return x\n");
  module.save((folder / "sparse.pt").string());
  LOWRANK_EXPECT_ERROR(load_script(folder / "sparse.pt"), FileError,
                       "must be dense. Got \"weight\", which is sparse.");
}

/// The directory at the end of the archive says how large each record is once it is unpacked.
TEST(ScriptFile, UnpacksNoMoreThanAModelNeeds) {
  const TemporaryFolder folder;
  auto bytes = read_bytes(kFixtures + "scripted.pt");
  int compressed = 0;
  for (size_t at = 0; (at = bytes.find("PK\x01\x02", at)) != std::string::npos; at += 46) {
    if (bytes[at + 10] == 0) continue;  // stored as it is
    bytes.replace(at + 24, 4, std::string("\0\0\0\x11", 4));
    ++compressed;
  }
  ASSERT_GT(compressed, 0);
  LOWRANK_EXPECT_ERROR(
      load_script(folder.write("bomb.pt", bytes)), FileError,
      "must unpack to at most 256 MiB. Got " + std::to_string(272 * compressed) + " MiB.");
}

}  // namespace
}  // namespace lowrank::app
