#include <fmt/format.h>
#include <lowrank/adapter/init_options.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <utility>

namespace lowrank {
namespace {

template <class Enum, size_t N>
using Names = std::array<std::pair<Enum, const char*>, N>;

constexpr Names<CordaMethod, 2> kCordaMethods = {
    {{CordaMethod::kIpm, "ipm"}, {CordaMethod::kKpm, "kpm"}}};
constexpr Names<LoraGaDirection, 4> kDirections = {{{LoraGaDirection::kArBr, "ArBr"},
                                                    {LoraGaDirection::kA2rBr, "A2rBr"},
                                                    {LoraGaDirection::kArB2r, "ArB2r"},
                                                    {LoraGaDirection::kRandom, "random"}}};
constexpr Names<LoraGaScale, 4> kScales = {{{LoraGaScale::kStable, "stable"},
                                            {LoraGaScale::kWeightSvd, "weight_svd"},
                                            {LoraGaScale::kGdScale, "gd_scale"},
                                            {LoraGaScale::kUnit, "unit"}}};

template <class Enum, size_t N>
const char* name_of(const Names<Enum, N>& names, Enum value) {
  return std::find_if(names.begin(), names.end(),
                      [&](const auto& entry) { return entry.first == value; })
      ->second;
}

template <class Enum, size_t N>
Enum value_of(const Names<Enum, N>& names, const std::string& name, const char* what) {
  std::vector<std::string> known;
  for (const auto& [value, own_name] : names) {
    if (name == own_name) return value;
    known.emplace_back(own_name);
  }
  fail<ArgumentError>("attach", fmt::format("{} must be one of {}", what, list_names(known)),
                      fmt::format("\"{}\"", name), did_you_mean(name, known));
}

}  // namespace

const char* corda_method_name(CordaMethod method) { return name_of(kCordaMethods, method); }
CordaMethod corda_method(const std::string& name) {
  return value_of(kCordaMethods, name, "corda_method");
}

const char* lora_ga_direction_name(LoraGaDirection direction) {
  return name_of(kDirections, direction);
}
LoraGaDirection lora_ga_direction(const std::string& name) {
  return value_of(kDirections, name, "the direction of lora_ga_config");
}

const char* lora_ga_scale_name(LoraGaScale scale) { return name_of(kScales, scale); }
LoraGaScale lora_ga_scale(const std::string& name) {
  return value_of(kScales, name, "the scale of lora_ga_config");
}

}  // namespace lowrank
