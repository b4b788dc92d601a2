#pragma once

#include <lowrank/export.h>

#include <cstdint>
#include <string>

/// How several adapters are combined into one: the methods of PEFT's add_weighted_adapter
/// (tuners/lora/model.py, utils/merge_utils.py), under the same names. Adapter i contributes ΔWᵢ =
/// sᵢ·Bᵢ·Aᵢ, with its scaling sᵢ, and has the weight wᵢ, which may be negative.
namespace lowrank {

/// The methods named *_svd prune and add the dense ΔWᵢ, then keep the best approximation of the
/// wanted rank. The methods of the same names without _svd treat the Aᵢ and the Bᵢ separately, as
/// kLinear does: they need equal ranks and cost almost nothing, but bring in cross terms between
/// the adapters.
///
/// Pruning keeps the entries that are largest in magnitude (magnitude, TIES), or random entries
/// that are then divided by the density (DARE); the rest become zero. TIES elects a sign for each
/// entry and averages the weighted values that have this sign; the other methods add the weighted
/// values.
enum class CombineMethod {
  kCat,  ///< Σ wᵢ·ΔWᵢ exactly, with rank Σ rᵢ
  kLinear,  ///< A = Σ ±√|wᵢsᵢ|·Aᵢ, B = Σ √|wᵢsᵢ|·Bᵢ, where ± is the sign of wᵢsᵢ
  kSvd,   ///< the best approximation of Σ wᵢ·ΔWᵢ
  kTies,  ///< Yadav et al., "TIES-Merging", arXiv 2306.01708
  kTiesSvd,
  kDareLinear,  ///< Yu et al., "Language Models are Super Mario" (DARE), arXiv 2311.03099
  kDareLinearSvd,
  kDareTies,  ///< DARE's pruning, then TIES's election
  kDareTiesSvd,
  kMagnitudePrune,  ///< pruned by magnitude, then added
  kMagnitudePruneSvd,
};

/// What decides the sign that TIES elects for an entry.
enum class MajoritySign {
  kTotal,      ///< the sum of the pruned values
  kFrequency,  ///< whether more of them are positive or negative
};

struct CombineOptions {
  CombineMethod method = CombineMethod::kSvd;
  /// For kSvd and *_svd: the largest rank of the result, which is lower in a layer that does not
  /// allow more. 0 means the largest rank among the adapters. Must be 0 with the other methods.
  int64_t rank = 0;
  /// The fraction of the entries that pruning keeps, in (0, 1]; 1 keeps all. Must be 1 with kCat,
  /// kLinear and kSvd, which do not prune.
  double density = 1;
  MajoritySign majority_sign = MajoritySign::kTotal;  ///< for the TIES methods
  uint64_t seed = 0;                                  ///< for what DARE drops
};

/// Throws ArgumentError for a rank or density that is out of range or that the method does not use.
LOWRANK_API void check(const CombineOptions& options);

/// Convert a method to PEFT's name, such as "dare_ties_svd", and back; an unknown name throws
/// ArgumentError.
LOWRANK_API const char* combine_method_name(CombineMethod method);
LOWRANK_API CombineMethod combine_method(const std::string& name);

/// Convert a sign to "total" or "frequency" and back; an unknown name throws ArgumentError.
LOWRANK_API const char* majority_sign_name(MajoritySign sign);
LOWRANK_API MajoritySign majority_sign(const std::string& name);

}  // namespace lowrank
