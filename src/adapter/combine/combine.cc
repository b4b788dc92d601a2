#include <fmt/format.h>
#include <lowrank/adapter/combine.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "adapter/combine/combine_plan.h"

namespace lowrank {
namespace {

using On = CombinePlan::On;
using Pruning = CombinePlan::Pruning;

struct Method {
  CombineMethod method;
  const char* name;
  CombinePlan plan;
};

constexpr std::array<Method, 11> kMethods = {{
    {CombineMethod::kCat, "cat", {On::kStack}},
    {CombineMethod::kLinear, "linear", {On::kFactors}},
    {CombineMethod::kSvd, "svd", {On::kProduct}},
    {CombineMethod::kTies, "ties", {On::kFactors, Pruning::kMagnitude, true}},
    {CombineMethod::kTiesSvd, "ties_svd", {On::kDense, Pruning::kMagnitude, true}},
    {CombineMethod::kDareLinear, "dare_linear", {On::kFactors, Pruning::kRandom}},
    {CombineMethod::kDareLinearSvd, "dare_linear_svd", {On::kDense, Pruning::kRandom}},
    {CombineMethod::kDareTies, "dare_ties", {On::kFactors, Pruning::kRandom, true}},
    {CombineMethod::kDareTiesSvd, "dare_ties_svd", {On::kDense, Pruning::kRandom, true}},
    {CombineMethod::kMagnitudePrune, "magnitude_prune", {On::kFactors, Pruning::kMagnitude}},
    {CombineMethod::kMagnitudePruneSvd, "magnitude_prune_svd", {On::kDense, Pruning::kMagnitude}},
}};

const Method& known(CombineMethod method) {
  return *std::find_if(kMethods.begin(), kMethods.end(),
                       [&](const Method& one) { return one.method == method; });
}

}  // namespace

CombinePlan combine_plan(CombineMethod method) { return known(method).plan; }

void check(const CombineOptions& options) {
  const auto& [method, name, plan] = known(options.method);
  if (options.rank < 0) {
    fail<ArgumentError>("combine", "the rank must be at least 1, or 0 for the adapters' largest",
                        fmt::format("{}", options.rank));
  }
  if (options.rank > 0 && !plan.truncates()) {
    fail<ArgumentError>("combine", fmt::format("the rank must be left to the method with {}", name),
                        fmt::format("{}", options.rank),
                        "Only svd and the *_svd methods take one.");
  }
  if (!(options.density > 0 && options.density <= 1)) {
    fail<ArgumentError>("combine", "the density must be above 0 and at most 1",
                        fmt::format("{}", options.density));
  }
  if (options.density < 1 && plan.pruning == Pruning::kNone) {
    fail<ArgumentError>("combine", fmt::format("the density must be 1 with {}", name),
                        fmt::format("{}", options.density), "That method prunes nothing.");
  }
}

const char* combine_method_name(CombineMethod method) { return known(method).name; }

CombineMethod combine_method(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& one : kMethods) {
    if (name == one.name) return one.method;
    names.emplace_back(one.name);
  }
  fail<ArgumentError>("combine",
                      fmt::format("the method must be one of {}", list_names(names, names.size())),
                      fmt::format("\"{}\"", name), did_you_mean(name, names));
}

const char* majority_sign_name(MajoritySign sign) {
  return sign == MajoritySign::kTotal ? "total" : "frequency";
}

MajoritySign majority_sign(const std::string& name) {
  for (const auto sign : {MajoritySign::kTotal, MajoritySign::kFrequency}) {
    if (name == majority_sign_name(sign)) return sign;
  }
  fail<ArgumentError>("combine", "the majority sign must be total or frequency",
                      fmt::format("\"{}\"", name), did_you_mean(name, {"total", "frequency"}));
}

}  // namespace lowrank
