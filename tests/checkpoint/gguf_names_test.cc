#include "checkpoint/gguf_names.h"

#include <lowrank/checkpoint/checkpoint.h>
#include <lowrank/error.h>

#include <algorithm>
#include <string>

#include "support/expect_error.h"
#include "support/gguf_bytes.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

class GgufCheckpoint : public ::testing::Test {
 protected:
  Checkpoint open(const GgufBytes& file) const {
    return Checkpoint::open(folder_.write("model.gguf", file.bytes()));
  }
  TemporaryFolder folder_;
};

/// What convert_hf_to_gguf.py does to the rows of q and k.
at::Tensor reordered(const at::Tensor& weight, int64_t heads) {
  return weight.reshape({heads, 2, weight.size(0) / heads / 2, -1})
      .transpose(1, 2)
      .reshape(weight.sizes());
}

TEST_F(GgufCheckpoint, OfLlamaHasTheModelsNamesAndRows) {
  const auto q = at::randn({16, 6}), k = at::randn({8, 6}), v = at::randn({8, 6});
  const auto bias = at::randn({16});
  GgufBytes file;
  file.entry("general.architecture", "llama");
  file.entry("llama.attention.head_count", 4).entry("llama.attention.head_count_kv", 2);
  file.tensor("blk.10.attn_q.weight", reordered(q, 4))
      .tensor("blk.10.attn_k.weight", reordered(k, 2));
  file.tensor("blk.10.attn_q.bias", reordered(bias.view({-1, 1}), 4).view({-1}));
  file.tensor("blk.10.attn_v.weight", v).tensor("token_embd.weight", v);
  file.tensor("output_norm.weight", bias).tensor("rope_freqs.weight", bias);
  const auto checkpoint = open(file);
  EXPECT_TRUE(at::equal(checkpoint.tensor("model.layers.10.self_attn.q_proj.weight"), q));
  EXPECT_TRUE(at::equal(checkpoint.tensor("model.layers.10.self_attn.k_proj.weight"), k));
  EXPECT_TRUE(at::equal(checkpoint.tensor("model.layers.10.self_attn.q_proj.bias"), bias));
  EXPECT_TRUE(at::equal(checkpoint.tensor("model.layers.10.self_attn.v_proj.weight"), v));
  EXPECT_TRUE(at::equal(checkpoint.tensor("model.embed_tokens.weight"), v));
  EXPECT_TRUE(checkpoint.contains("model.norm.weight"));
  EXPECT_TRUE(checkpoint.contains("rope_freqs.weight"));
  EXPECT_EQ(checkpoint.stored("model.norm.weight").format, "F32");
  EXPECT_FALSE(checkpoint.is_safetensors());
}

TEST_F(GgufCheckpoint, OfLlamaNeedsItsHeads) {
  GgufBytes file;
  file.entry("general.architecture", "llama");
  LOWRANK_EXPECT_ERROR(open(file), FileError, "llama.attention.head_count in");
  file.entry("llama.attention.head_count", 0);
  LOWRANK_EXPECT_ERROR(open(file), FileError, "must be a number of heads. Got 0");
  GgufBytes uneven;
  uneven.entry("general.architecture", "llama").entry("llama.attention.head_count", 3);
  uneven.tensor("blk.0.attn_q.weight", at::randn({16, 6}));
  LOWRANK_EXPECT_ERROR(open(uneven), FileError, "3 heads of even width. Got [16, 6]");
}

TEST_F(GgufCheckpoint, MayHoldNothing) {
  GgufBytes file;
  file.entry("general.architecture", "llama").entry("llama.attention.head_count", 4);
  file.tensor("blk.0.attn_q.weight", at::zeros({0, 64}));
  EXPECT_EQ(open(file).tensor("model.layers.0.self_attn.q_proj.weight").numel(), 0);
}

TEST_F(GgufCheckpoint, HasEachNameOnce) {
  GgufBytes file;
  file.entry("general.architecture", "qwen2");
  file.tensor("output.weight", at::ones({2, 2})).tensor("lm_head.weight", at::ones({2, 2}));
  LOWRANK_EXPECT_ERROR(open(file), FileError, "Got two of the name \"lm_head.weight\".");
}

/// Qwen's rows stay as they are.
TEST_F(GgufCheckpoint, OfQwenIsRenamedAlone) {
  const auto q = at::randn({16, 6});
  GgufBytes file;
  file.entry("general.architecture", "qwen3");
  file.tensor("blk.0.attn_q.weight", q).tensor("blk.0.attn_q_norm.weight", at::ones({4}));
  const auto checkpoint = open(file);
  EXPECT_TRUE(at::equal(checkpoint.tensor("model.layers.0.self_attn.q_proj.weight"), q));
  EXPECT_TRUE(checkpoint.contains("model.layers.0.self_attn.q_norm.weight"));
}

TEST_F(GgufCheckpoint, OfGpt2IsTransposedAgain) {
  const auto weight = at::randn({6, 18}), table = at::randn({7, 6});
  GgufBytes file;
  file.entry("general.architecture", "gpt2");
  file.tensor("blk.0.attn_qkv.weight", weight.t()).tensor("position_embd.weight", table);
  file.tensor("blk.0.ffn_norm.bias", at::ones({6}));
  const auto checkpoint = open(file);
  const std::string name = "transformer.h.0.attn.c_attn.weight";
  EXPECT_TRUE(at::equal(checkpoint.tensor(name), weight));
  EXPECT_EQ(checkpoint.stored(name).shape, weight.sizes().vec());
  EXPECT_TRUE(at::equal(checkpoint.tensor("transformer.wpe.weight"), table));
  EXPECT_TRUE(checkpoint.contains("transformer.h.0.ln_2.bias"));
}

TEST_F(GgufCheckpoint, OfGemmaHasNormsWithoutTheOne) {
  GgufBytes file;
  file.entry("general.architecture", "gemma3");
  file.tensor("blk.3.post_ffw_norm.weight", at::full({4}, 1.5));
  const auto checkpoint = open(file);
  const auto norm = checkpoint.tensor("model.layers.3.post_feedforward_layernorm.weight");
  EXPECT_TRUE(at::equal(norm, at::full({4}, 0.5)));
}

TEST_F(GgufCheckpoint, KeepsNamesThatItDoesNotKnow) {
  for (const std::string architecture : {"falcon", "llama"}) {
    GgufBytes file;
    file.entry("general.architecture", architecture).entry("llama.attention.head_count", 1);
    const std::vector<std::string> names = {"blk..attn_v.weight", "blk.x.attn_v.weight",
                                            "blk.0.unknown.weight", "plain", "blk.0.attn_v.scale"};
    for (const auto& name : names) file.tensor(name, at::ones({2}));
    EXPECT_EQ(open(file).names(), names) << architecture;
  }
}

}  // namespace
}  // namespace lowrank
