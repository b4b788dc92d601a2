#include "weights/untied_base.h"

#include <ATen/ATen.h>
#include <lowrank/io/json.h>

#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>

namespace lowrank {
namespace {

bool says_tied(const Checkpoint& base) {
  std::error_code none;
  const auto config = base.place() / "config.json";
  if (!base.is_folder() || !std::filesystem::exists(config, none)) return false;
  const auto json = read_json_file(config);
  const auto tied = json.is_object() ? json.find("tie_word_embeddings") : json.end();
  return json.is_object() && tied != json.end() && *tied == true;
}

}  // namespace

const std::string& UntiedBase::head() {
  static const std::string name = "lm_head.weight";
  return name;
}

UntiedBase::UntiedBase(const Checkpoint& base) : base_(base) {
  constexpr std::array<std::string_view, 4> kTables = {"embed_tokens.weight", "wte.weight",
                                                       "word_embeddings.weight", "shared.weight"};
  if (!says_tied(base)) return;
  for (const auto& name : base.names()) {
    for (const auto table : kTables) {
      if (name == table || name.ends_with("." + std::string(table))) table_ = name;
    }
    if (!table_.empty()) return;
  }
}

const std::string& UntiedBase::own(const std::string& name) const {
  return is_tied() && name == head() && !base_.contains(name) ? table_ : name;
}

bool UntiedBase::contains(const std::string& name) const { return base_.contains(own(name)); }
at::Tensor UntiedBase::tensor(const std::string& name) const { return base_.tensor(own(name)); }
StoredTensor UntiedBase::stored(const std::string& name) const { return base_.stored(own(name)); }

}  // namespace lowrank
