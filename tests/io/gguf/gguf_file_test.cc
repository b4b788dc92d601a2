#include "io/gguf/gguf_file.h"

#include <lowrank/io/safetensors.h>
#include <sys/stat.h>

#include "support/temporary_folder.h"

namespace lowrank {
namespace {

/// The numbers are those of Python's gguf, bit for bit (tests/reference/make_gguf.py).
TEST(GgufFile, ReadsBlocksAsPythonDoes) {
  const std::string fixtures = LOWRANK_FIXTURES;
  const io::GgufFile file(fixtures + "/blocks.gguf");
  const auto expected = SafetensorsFile::open(fixtures + "/blocks.safetensors");
  ASSERT_EQ(file.header().tensors.size(), 8);
  for (const auto& info : file.header().tensors) {
    auto wanted = expected.tensor(info.name);
    const auto found = file.tensor(info);
    if (info.name == "bf16") wanted = wanted.to(at::kBFloat16);
    EXPECT_EQ(found.scalar_type(), wanted.scalar_type()) << info.name;
    EXPECT_TRUE(at::equal(found, wanted)) << info.name;
  }
}

TEST(GgufFile, IsToldByItsFirstBytes) {
  const TemporaryFolder folder;
  EXPECT_TRUE(io::is_gguf(folder.write("a", "GGUF and more")));
  EXPECT_FALSE(io::is_gguf(folder.write("b", "GGU")));
  EXPECT_FALSE(io::is_gguf(folder / "missing"));
  EXPECT_FALSE(io::is_gguf(folder.path()));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_FALSE(io::is_gguf(folder / "pipe")) << "without waiting for a writer";
}

}  // namespace
}  // namespace lowrank
