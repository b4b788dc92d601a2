#include "checkpoint/gguf_names.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <array>
#include <cctype>
#include <span>
#include <string_view>
#include <utility>
#include <variant>

#include "io/files/system_file.h"

namespace lowrank {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

/// Names in llama.cpp and in transformers, without ".weight" and ".bias"; those of a block without
/// "blk.N." and "model.layers.N.".
struct Architecture {
  std::string_view prefix;  // of a block in transformers
  std::span<const Pair> outside, in_block;
};

constexpr std::array<Pair, 3> kOutsideLlama = {{
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
}};
constexpr std::array<Pair, 11> kLlama = {{
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
}};
constexpr std::array<Pair, 13> kGemma3 = {{
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"post_attention_norm", "post_attention_layernorm"},
    {"ffn_norm", "pre_feedforward_layernorm"},
    {"post_ffw_norm", "post_feedforward_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
}};
constexpr std::array<Pair, 4> kOutsideGpt2 = {{
    {"token_embd", "transformer.wte"},
    {"position_embd", "transformer.wpe"},
    {"output_norm", "transformer.ln_f"},
    {"output", "lm_head"},
}};
constexpr std::array<Pair, 6> kGpt2 = {{
    {"attn_norm", "ln_1"},
    {"attn_qkv", "attn.c_attn"},
    {"attn_output", "attn.c_proj"},
    {"ffn_norm", "ln_2"},
    {"ffn_up", "mlp.c_fc"},
    {"ffn_down", "mlp.c_proj"},
}};

constexpr std::array<std::pair<std::string_view, Architecture>, 5> kArchitectures = {{
    {"llama", {"model.layers.", kOutsideLlama, kLlama}},
    {"qwen2", {"model.layers.", kOutsideLlama, kLlama}},
    {"qwen3", {"model.layers.", kOutsideLlama, kLlama}},
    {"gemma3", {"model.layers.", kOutsideLlama, kGemma3}},
    {"gpt2", {"transformer.h.", kOutsideGpt2, kGpt2}},
}};

const Architecture* architecture(std::string_view name) {
  for (const auto& [known, architecture] : kArchitectures) {
    if (known == name) return &architecture;
  }
  return nullptr;
}

std::string_view renamed(std::span<const Pair> names, std::string_view name) {
  for (const auto& [own, in_model] : names) {
    if (own == name) return in_model;
  }
  return {};
}

/// Returns the name in transformers; empty if it is not known.
std::string name_in_model(const Architecture& architecture, std::string_view name) {
  const auto dot = name.rfind('.');
  if (dot == std::string_view::npos) return {};
  const auto last = name.substr(dot);
  if (last != ".weight" && last != ".bias") return {};
  auto stem = name.substr(0, dot);
  constexpr std::string_view kBlock = "blk.";
  if (!stem.starts_with(kBlock)) {
    const auto own = renamed(architecture.outside, stem);
    return own.empty() ? std::string() : fmt::format("{}{}", own, last);
  }
  stem.remove_prefix(kBlock.size());
  const auto end = stem.find('.');
  if (end == std::string_view::npos || end == 0) return {};
  const auto number = stem.substr(0, end);
  for (const char c : number) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) return {};
  }
  const auto own = renamed(architecture.in_block, stem.substr(end + 1));
  if (own.empty()) return {};
  return fmt::format("{}{}.{}{}", architecture.prefix, number, own, last);
}

int64_t whole_number(const io::GgufHeader& header, const std::string& key,
                     const std::string& path) {
  const auto found = header.metadata.find(key);
  const auto* value =
      found == header.metadata.end() ? nullptr : std::get_if<int64_t>(&found->second);
  if (value == nullptr || *value < 1 || *value > (int64_t{1} << 20)) {
    fail<FileError>("gguf", fmt::format("{} in {} must be a number of heads", key, path),
                    value == nullptr ? "none" : std::to_string(*value));
  }
  return *value;
}

}  // namespace

GgufNames::GgufNames(const io::GgufHeader& header, const std::filesystem::path& path)
    : path_(io::quoted(path)) {
  const auto found = header.metadata.find("general.architecture");
  if (found == header.metadata.end()) return;
  if (const auto* name = std::get_if<std::string>(&found->second)) architecture_ = *name;
  if (architecture_ != "llama") return;
  const std::string key_heads = "llama.attention.head_count_kv";
  heads_ = whole_number(header, "llama.attention.head_count", path_);
  key_heads_ =
      header.metadata.contains(key_heads) ? whole_number(header, key_heads, path_) : heads_;
}

TensorInModel GgufNames::of(const io::GgufTensorInfo& info) const {
  TensorInModel own;
  own.name = info.name;
  const auto* known = architecture(architecture_);
  if (known == nullptr) return own;
  const auto name = name_in_model(*known, info.name);
  if (name.empty()) return own;
  own.name = name;
  const bool is_matrix = info.shape.size() == 2;
  if (architecture_ == "gpt2" && info.name.starts_with("blk.") && is_matrix) {
    own.is_transposed = true;
  }
  if (architecture_ == "gemma3" && name.ends_with("norm.weight")) own.has_one_added = true;
  if (architecture_ != "llama") return own;
  const bool is_key = name.find(".self_attn.k_proj.") != std::string::npos;
  if (!is_key && name.find(".self_attn.q_proj.") == std::string::npos) return own;
  own.reordered_heads = is_key ? key_heads_ : heads_;
  const bool fits = !info.shape.empty() && info.shape[0] % (2 * own.reordered_heads) == 0;
  if (!fits) {
    fail<FileError>("gguf",
                    fmt::format("the rows of {} in {} must be those of {} heads of even width",
                                io::quoted(info.name), path_, own.reordered_heads),
                    fmt::format("[{}]", fmt::join(info.shape, ", ")));
  }
  return own;
}

at::Tensor as_in_model(const at::Tensor& tensor, const TensorInModel& in_model) {
  auto own = tensor;
  if (in_model.reordered_heads > 0 && tensor.numel() > 0) {
    // The converter put the two halves of a head's rows side by side, row by row.
    const auto half = tensor.size(0) / in_model.reordered_heads / 2;
    own = own.reshape({in_model.reordered_heads, half, 2, -1})
              .transpose(1, 2)
              .reshape(tensor.sizes());
  }
  if (in_model.is_transposed) own = own.t().contiguous();
  if (in_model.has_one_added) own = own - 1;
  return own;
}

}  // namespace lowrank
