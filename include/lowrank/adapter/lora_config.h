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

/// Names of modules: a list, whose entries match a dotted path that equals them or ends with
/// "." + entry, or one regular expression that must match the whole path (PEFT,
/// tuners/tuners_utils.py, check_target_module_exists). target_modules may hold both, as PEFT's
/// target_parameters stand beside an expression.
struct ModuleSelector {
  std::vector<std::string> names = {};
  std::string regex;  // in Python's syntax; empty: the names count

  ModuleSelector() = default;
  ModuleSelector(std::initializer_list<std::string> list) : names(list) {}
  explicit ModuleSelector(std::vector<std::string> list) : names(std::move(list)) {}
  static ModuleSelector matching(std::string pattern) {
    ModuleSelector selector;
    selector.regex = std::move(pattern);
    return selector;
  }
  bool empty() const { return names.empty() && regex.empty(); }
  bool operator==(const ModuleSelector&) const = default;
};

/// How the factors start. Exactly one of them starts at zero, or B·A is taken off W first
/// (marked *), so that an adapted model starts as its base. PEFT, tuners/lora/layer.py. The last
/// three look at data: attach() is given a run over it.
enum class LoraInit {
  kKaimingUniform,  ///< A ~ U(-1/√in, 1/√in): PEFT's default, with PEFT's own draws for one seed
  kGaussian,        ///< A ~ N(0, 1/r), that being the standard deviation: PEFT's "gaussian"
  kNormal,          ///< A ~ N(0, 1): the LoRA notebook's
  kOrthogonal,      ///< halves of a random orthogonal matrix; even ranks
  kPissa,           ///< * the leading singular triplets of W (arXiv 2404.02948)
  kPissaNiter,      ///< * the same from a randomized SVD of `init_iterations` power iterations
  kOlora,           ///< * the leading columns of W = Q·R (arXiv 2406.01775)
  kEva,             ///< A: leading right singular vectors of the inputs (arXiv 2410.07170)
  kCorda,           ///< * singular triplets of W·C, C the inputs' covariance (arXiv 2406.05223)
  kLoraGa,          ///< * singular vectors of the gradient (arXiv 2407.05000)
};

/// Which biases are trained beside the factors.
enum class BiasMode {
  kNone,
  kAll,       ///< every bias of the model
  kLoraOnly,  ///< those of the adapted layers
};

/// What is attached to which layers (Hu et al., "LoRA", arXiv 2106.09685, section 4.1). The fields
/// are those of PEFT's LoraConfig (tuners/lora/config.py) and mean the same.
struct LoraConfig {
  /// r, the number of rows of A and columns of B; 1 to 1000000. Above min(in, out) it brings
  /// nothing.
  int64_t rank = 8;
  /// Scales the update: scaling = alpha / rank. Not 0, and between -1e30 and 1e30.
  double alpha = 8;
  /// The layers to adapt; the one word "all-linear" stands for every Linear layer (and
  /// transformers' Conv1D) but the output head: what is called lm_head or embed_out or shares its
  /// weight with an Embedding, and score or classifier in a model whose class is named
  /// ...ForSequenceClassification. A parameter may be named directly ("lstm.weight_ih_l0"), and so
  /// may a layer of any other kind that has a weight of two or more dimensions.
  ModuleSelector target_modules = {"all-linear"};
  /// Layers that are left out although target_modules names them.
  ModuleSelector exclude_modules{};
  /// Indices of the layers to adapt ("layers.3.query"); empty: all. They choose among what the end
  /// of a path matches, not what is named in full. Not with a regular expression.
  std::vector<int64_t> layers_to_transform{};
  /// The path segments that such an index follows, each a regular expression; empty: any segment.
  std::vector<std::string> layers_pattern{};
  /// Ranks and alphas by layer: the first key that matches counts, a regular expression used as
  /// "(.*\.)?(key)$" from the start of the path.
  std::vector<std::pair<std::string, int64_t>> rank_pattern{};
  std::vector<std::pair<std::string, double>> alpha_pattern{};
  /// Modules that are trained whole, in a copy, beside the factors: those whose path ends with one
  /// of these. They are not adapted.
  std::vector<std::string> modules_to_save{};
  /// Rows of embeddings that are trained, in copies: for each Embedding, by the end of its path,
  /// the indices of its rows. The name "" stands for the model's only Embedding.
  std::vector<std::pair<std::string, std::vector<int64_t>>> trainable_token_indices{};
  BiasMode bias = BiasMode::kNone;
  LoraInit init = LoraInit::kKaimingUniform;
  /// Power iterations of kPissaNiter, 0 to 1000.
  int64_t init_iterations = 16;
  EvaConfig eva_config{};         ///< of kEva
  CordaConfig corda_config{};     ///< of kCorda
  LoraGaConfig lora_ga_config{};  ///< of kLoraGa
  /// scaling = alpha / √rank instead (Kalajdzievski, "rsLoRA", arXiv 2312.03732).
  bool use_rslora = false;
  /// Magnitude and direction apart: W' = m (W + s·B·A) / ‖W + s·B·A‖ (arXiv 2402.09353).
  bool use_dora = false;
  /// A bias on lora_B, which the scaling applies to as well.
  bool lora_bias = false;
  /// Share of the inputs of A that is zeroed in training, in [0, 1).
  double lora_dropout = 0;
  /// Fields of a PEFT file that change no number here (task_type, revision, ...), as a JSON object;
  /// they are written back. Empty: none.
  std::string extra_json{};

  /// alpha / rank, or alpha / √rank with rsLoRA.
  LOWRANK_API double scaling() const;
};

/// Throws ArgumentError that names the first field out of its range: a rank, an alpha that
/// is 0 or not finite (in a pattern too), a dropout outside [0, 1), an odd rank with kOrthogonal,
/// an option of an initialisation, an invalid regular expression, a token index that is negative or
/// comes twice, or fields that exclude each other (layers_to_transform with a regular expression,
/// lora_bias with use_dora or with an init that uses the base).
LOWRANK_API void check(const LoraConfig& config);

/// The config with the rank and the alpha that rank_pattern and alpha_pattern give the layer of
/// this path, so that scaling() is that layer's.
LOWRANK_API LoraConfig config_of_layer(const LoraConfig& config, const std::string& path);

/// Reads PEFT's adapter_config.json (tuners/lora/config.py). Throws FileError that names the file
/// and the field for what is missing, of another type or out of its range, and for what would
/// change the numbers in a way this version cannot honour (aLoRA, KaSA, layer_replication, ...).
LOWRANK_API LoraConfig read_lora_config(const std::filesystem::path& file);

/// "kaiming", "gaussian", "normal", "orthogonal", "pissa", "pissa_niter_16", "olora", "eva",
/// "corda" or "lora_ga": PEFT's words, and kaiming for its default.
LOWRANK_API std::string init_name(const LoraConfig& config);
/// The other way: sets init and, for pissa_niter_N, init_iterations. Throws ArgumentError with the
/// nearest name.
LOWRANK_API void set_init(LoraConfig& config, const std::string& name);

/// "none", "all" or "lora_only", and the other way (throws ArgumentError with the nearest name).
LOWRANK_API std::string bias_name(BiasMode mode);
LOWRANK_API BiasMode bias_mode(const std::string& name);

}  // namespace lowrank
