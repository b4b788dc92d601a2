#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/train/train_options.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace lowrank {
namespace {

void require(bool holds, const char* required, double found) {
  if (!holds) fail<ArgumentError>("train", required, fmt::format("{}", found));
}

}  // namespace

void check(const TrainOptions& options) {
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  require(options.steps >= 0, "steps must be at least 0", number(options.steps));
  require(options.steps > 0 || options.epochs >= 1, "epochs must be at least 1",
          number(options.epochs));
  require(options.epochs <= 1'000'000, "epochs must be at most 1000000", number(options.epochs));
  require(options.batch_size >= 1, "batch_size must be at least 1", number(options.batch_size));
  require(options.batch_size <= 1'000'000'000, "batch_size must be at most 1000000000",
          number(options.batch_size));
  require(std::isfinite(options.learning_rate) && options.learning_rate > 0,
          "learning_rate must be finite and above 0", options.learning_rate);
  require(std::isfinite(options.weight_decay) && options.weight_decay >= 0,
          "weight_decay must be finite and at least 0", options.weight_decay);
  require(std::isfinite(options.seconds) && options.seconds >= 0,
          "seconds must be finite and at least 0 (0: no limit)", options.seconds);
  require(options.schedule.warmup_steps >= 0, "warmup_steps must be at least 0",
          number(options.schedule.warmup_steps));
  require(std::isfinite(options.clip_norm) && options.clip_norm >= 0,
          "clip_norm must be finite and at least 0 (0 disables clipping)", options.clip_norm);
  require(options.accumulate >= 1, "accumulate must be at least 1", number(options.accumulate));
  require(options.accumulate <= 1'000'000, "accumulate must be at most 1000000",
          number(options.accumulate));
  require(options.validation >= 0 && options.validation < 1,
          "validation must be at least 0 and below 1", options.validation);
  require(options.validate_every >= 0, "validate_every must be at least 0",
          number(options.validate_every));
  require(options.validation_batch_size >= 0, "validation_batch_size must be at least 0",
          number(options.validation_batch_size));
  require(options.patience >= 0, "patience must be at least 0", number(options.patience));
  require(options.replay >= 0 && options.replay < 1, "replay must be at least 0 and below 1",
          options.replay);
}

nlohmann::ordered_json to_json(const TrainOptions& options) {
  nlohmann::ordered_json json;
  json["epochs"] = options.epochs;
  json["steps"] = options.steps;
  json["seconds"] = options.seconds;
  json["batch_size"] = options.batch_size;
  json["learning_rate"] = options.learning_rate;
  json["weight_decay"] = options.weight_decay;
  json["schedule"] = schedule_name(options.schedule.kind);
  json["warmup_steps"] = options.schedule.warmup_steps;
  json["clip_norm"] = options.clip_norm;
  json["accumulate"] = options.accumulate;
  json["validation"] = options.validation;
  json["validate_every"] = options.validate_every;
  json["validation_batch_size"] = options.validation_batch_size;
  json["patience"] = options.patience;
  json["replay"] = options.replay;
  json["seed"] = options.seed;
  return json;
}

}  // namespace lowrank
