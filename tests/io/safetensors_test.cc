#include <ATen/ATen.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

TEST(Safetensors, WhatIsWrittenIsRead) {
  const TemporaryFolder folder;
  const at::Tensor a = at::arange(6, at::kFloat).view({2, 3});
  const at::Tensor b = at::arange(4, at::kLong);
  write_safetensors(folder / "a file.safetensors", {{"b", b}, {"a", a}}, {{"format", "pt"}});
  const auto file = SafetensorsFile::open(folder / "a file.safetensors");
  EXPECT_EQ(file.names(), (std::vector<std::string>{"b", "a"}));
  EXPECT_TRUE(at::equal(file.tensor("a"), a));
  EXPECT_TRUE(at::equal(file.tensor("b"), b));
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

}  // namespace
}  // namespace lowrank
