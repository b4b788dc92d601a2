#pragma once

#include <lowrank/adapter/init_options.h>
#include <lowrank/export.h>

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace lowrank {

/// Selects modules by their names: either with a list, whose entries match a dotted path that
/// equals them or ends with "." + entry, or with one regular expression, which must match the whole
/// path (PEFT, tuners/tuners_utils.py, check_target_module_exists). target_modules may have both,
/// since PEFT allows target_parameters together with an expression.
struct ModuleSelector {
  std::vector<std::string> names = {};
  std::string regex;  // in Python's syntax; empty if the names are used

  ModuleSelector() = default;
  ModuleSelector(std::initializer_list<std::string> list) : names(list) {}
  ModuleSelector(std::vector<std::string> list) : names(std::move(list)) {}
  /// Refused: {{"a", "b"}}, with one pair of braces too many, would make one string of two
  /// pointers.
  ModuleSelector(std::initializer_list<std::initializer_list<const char*>> list) = delete;
  static ModuleSelector matching(std::string pattern) {
    ModuleSelector selector;
    selector.regex = std::move(pattern);
    return selector;
  }
  bool empty() const { return names.empty() && regex.empty(); }
  bool operator==(const ModuleSelector&) const = default;
};

/// How the factors start (PEFT, tuners/lora/layer.py). An adapted model starts as its base: either
/// B·A is zero, or it is first subtracted from W (marked *). The last three need data, from a `run`
/// that is passed to attach().
enum class LoraInit {
  kKaimingUniform,  ///< A ~ U(-1/√in, 1/√in): PEFT's default; the same seed gives the same numbers
                    ///< as in PEFT
  kGaussian,    ///< A ~ N(0, 1/r), where 1/r is the standard deviation: PEFT's "gaussian"
  kNormal,      ///< A ~ N(0, 1), as in the LoRA notebook
  kOrthogonal,  ///< halves of a random orthogonal matrix; needs an even rank
  kPissa,       ///< * the leading singular triplets of W (arXiv 2404.02948)
  kPissaNiter,  ///< * the same from a randomized SVD with `init_iterations` power iterations
  kOlora,       ///< * the leading columns of W = Q·R (arXiv 2406.01775)
  kEva,         ///< A: leading right singular vectors of the inputs (arXiv 2410.07170)
  kCorda,       ///< * singular triplets of W·C, C the inputs' covariance (arXiv 2406.05223)
  kLoraGa,      ///< * singular vectors of the gradient (arXiv 2407.05000)
};

/// Which biases are trained in addition to the factors.
enum class BiasMode {
  kNone,
  kAll,       ///< every bias of the model
  kLoraOnly,  ///< those of the adapted layers
};

/// Which layers are adapted, and how (Hu et al., "LoRA", arXiv 2106.09685, section 4.1). The fields
/// are those of PEFT's LoraConfig (tuners/lora/config.py), with the same meaning.
struct LoraConfig {
  /// r, the number of rows of A and columns of B; 1 to 1000000. A rank above min(in, out) has no
  /// benefit.
  int64_t rank = 8;
  /// Scales the update: scaling = alpha / rank. Not 0, and between -1e30 and 1e30.
  double alpha = 8;
  /// The layers to adapt. The word "all-linear" stands for every Linear layer (and transformers'
  /// Conv1D) except the output head: a layer that is called lm_head or embed_out or shares its
  /// weight with an Embedding, and score or classifier in a model whose class is named
  /// ...ForSequenceClassification. A name may also be that of a single parameter
  /// ("lstm.weight_ih_l0"), or of a layer of any other kind that has a weight of two or more
  /// dimensions.
  ModuleSelector target_modules = {"all-linear"};
  /// Layers that are left out even if target_modules matches them.
  ModuleSelector exclude_modules{};
  /// Indices of the layers to adapt (3 in "layers.3.query"); empty means all. They restrict the
  /// layers that a name matches by the end of their path, but not a layer that is named in full.
  /// Not allowed with a regular expression.
  std::vector<int64_t> layers_to_transform{};
  /// The path segments before the index, each as a regular expression; empty means any segment.
  std::vector<std::string> layers_pattern{};
  /// Ranks and alphas by layer. Each key is a regular expression, used as "(.*\.)?(key)$" from the
  /// start of the path; the first key that matches counts.
  std::vector<std::pair<std::string, int64_t>> rank_pattern{};
  std::vector<std::pair<std::string, double>> alpha_pattern{};
  /// Modules that are trained in full, in a copy, in addition to the factors: those whose path ends
  /// with one of these names. They are not adapted.
  std::vector<std::string> modules_to_save{};
  /// Rows of embeddings that are trained, in copies: the end of an Embedding's path, and the
  /// indices of its rows. The name "" stands for the model's only Embedding.
  std::vector<std::pair<std::string, std::vector<int64_t>>> trainable_token_indices{};
  BiasMode bias = BiasMode::kNone;
  LoraInit init = LoraInit::kKaimingUniform;
  /// Power iterations for kPissaNiter, 0 to 1000.
  int64_t init_iterations = 16;
  EvaConfig eva_config{};         ///< for kEva
  CordaConfig corda_config{};     ///< for kCorda
  LoraGaConfig lora_ga_config{};  ///< for kLoraGa
  /// scaling = alpha / √rank instead (Kalajdzievski, "rsLoRA", arXiv 2312.03732).
  bool use_rslora = false;
  /// Trains magnitude and direction separately (DoRA): W' = m (W + s·B·A) / ‖W + s·B·A‖ (arXiv
  /// 2402.09353).
  bool use_dora = false;
  /// Gives lora_B a bias, to which the scaling applies as well.
  bool lora_bias = false;
  /// Fraction of the inputs of A that is zeroed in training, in [0, 1).
  double lora_dropout = 0;
  /// Fields of a PEFT file that affect no result here (task_type, revision, ...), as a JSON object;
  /// they are written back. Empty if there are none.
  std::string extra_json{};

  /// alpha / rank, or alpha / √rank with rsLoRA.
  LOWRANK_API double scaling() const;
};

/// Throws ArgumentError that names the first invalid field: a rank that is out of range, an alpha
/// that is 0 or not finite (in a pattern too), a dropout outside [0, 1), an odd rank with
/// kOrthogonal, an option of an initialization, an invalid regular expression, a token index that
/// is negative or occurs twice, or fields that exclude each other (layers_to_transform with a
/// regular expression, lora_bias with use_dora or with an init that uses the base).
LOWRANK_API void check(const LoraConfig& config);

/// Returns the config with the rank and the alpha that rank_pattern and alpha_pattern give to the
/// layer at this path, so that scaling() is the scaling of that layer.
LOWRANK_API LoraConfig config_of_layer(const LoraConfig& config, const std::string& path);

/// Reads PEFT's adapter_config.json (tuners/lora/config.py). Throws FileError that names the file
/// and the field if a field is missing, of the wrong type or out of range, and if a field changes
/// the result in a way that this version does not support (aLoRA, KaSA, layer_replication, ...).
LOWRANK_API LoraConfig read_lora_config(const std::filesystem::path& file);

/// Returns "kaiming", "gaussian", "normal", "orthogonal", "pissa", "pissa_niter_16", "olora",
/// "eva", "corda" or "lora_ga". These are PEFT's names, except for "kaiming", its default, and
/// "normal".
LOWRANK_API std::string init_name(const LoraConfig& config);
/// The inverse: sets init and, for "pissa_niter_N", init_iterations. Throws ArgumentError,
/// suggesting the nearest name, for an unknown one.
LOWRANK_API void set_init(LoraConfig& config, const std::string& name);

/// Convert a mode to "none", "all" or "lora_only" and back; an unknown name throws ArgumentError,
/// which suggests the nearest one.
LOWRANK_API std::string bias_name(BiasMode mode);
LOWRANK_API BiasMode bias_mode(const std::string& name);

}  // namespace lowrank
