// Covers runs that are interrupted and resumed: train/trainer.cc and training_state_file.cc.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/train/interrupt.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "support/expect_error.h"
#include "support/temporary_folder.h"
#include "train/training_problem.h"

namespace lowrank {
namespace {

constexpr const char* kNoHistory = R"({"points": [], "validations": []})";

class Resume : public ::testing::Test {
 protected:
  RunOptions run(bool resume) const {
    return {.checkpoint = checkpoint_, .identity = "the run", .resume = resume};
  }

  /// Trains until Ctrl-C comes during forward number `forward`.
  void interrupt_at(int64_t forward, const TrainOptions& options, bool resume = false) {
    TrainingProblem problem(resume ? 1 : 0);
    problem.dropout = dropout_;
    problem.on_forward = [&](int64_t number) {
      if (number == forward) std::raise(SIGINT);
    };
    EXPECT_THROW(train(problem.task(), options, run(resume)), Interrupted);
  }

  /// Checks that a run that is interrupted and resumed twice, each time with other weights in
  /// memory, ends like an uninterrupted run.
  void expect_same_end(const TrainOptions& options, int64_t first, int64_t second) {
    TrainingProblem whole;
    whole.dropout = dropout_;
    const auto expected = train(whole.task(), options);
    interrupt_at(first, options);
    interrupt_at(second, options, /*resume=*/true);
    TrainingProblem resumed(2);
    resumed.dropout = dropout_;
    const auto result = train(resumed.task(), options, run(/*resume=*/true));
    EXPECT_LT(resumed.forwards, whole.forwards);
    EXPECT_TRUE(at::equal(resumed.weights(), whole.weights()));
    EXPECT_EQ(result.steps, expected.steps);
    EXPECT_EQ(result.mean_loss, expected.mean_loss);
    EXPECT_EQ(result.best_step, expected.best_step);
    EXPECT_EQ(result.best_validation_loss, expected.best_validation_loss);
    EXPECT_EQ(to_json(result.history), to_json(expected.history));
  }

  void expect_refused(const std::string& message) {
    TrainingProblem problem;
    LOWRANK_EXPECT_ERROR(train(problem.task(), {.steps = 9}, run(true)), FileError, message);
    EXPECT_EQ(problem.forwards, 0);
  }

  double dropout_ = 0;
  TemporaryFolder folder_;
  std::filesystem::path checkpoint_ = folder_ / "checkpoint.safetensors";
};

TEST_F(Resume, EndsAsARunThatWasNotInterrupted) {
  expect_same_end({.epochs = 3, .batch_size = 6}, 5, 4);
}

TEST_F(Resume, EndsTheSameWithEverythingOn) {
  expect_same_end({.steps = 40,
                   .batch_size = 7,
                   .learning_rate = 0.02,
                   .schedule = {.kind = ScheduleKind::kCosine, .warmup_steps = 6},
                   .clip_norm = 0.5,
                   .accumulate = 3,
                   .validation = 0.25,
                   .seed = 4},
                  30, 50);
}

TEST_F(Resume, EndsTheSameWithDropout) {
  dropout_ = 0.4;
  expect_same_end({.steps = 25, .batch_size = 7}, 5, 4);
  // The interrupts come in the middle of a step, whose random numbers are then drawn again.
  expect_same_end({.steps = 25, .batch_size = 7, .accumulate = 3, .validation = 0.25}, 20, 26);
}

TEST_F(Resume, PatienceCountsOverItsParts) {
  expect_same_end({.steps = 400,
                   .learning_rate = 0.02,
                   .validation = 0.25,
                   .validate_every = 4,
                   .patience = 3,
                   .seed = 3},
                  9, 4);
}

TEST_F(Resume, TimeCountsOverItsParts) {
  TrainingProblem problem;
  problem.on_forward = [](int64_t number) {
    if (number != 4) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    std::raise(SIGINT);
  };
  EXPECT_THROW(train(problem.task(), {.steps = 9}, run(false)), Interrupted);
  double seconds = 0;
  auto second = run(true);
  second.on_step = [&](const TrainProgress& progress) {
    seconds = progress.seconds;
    return false;
  };
  const auto result = train(problem.task(), {.steps = 9}, second);
  EXPECT_EQ(result.steps, 5);
  EXPECT_GE(seconds, 0.06) << "with those of the first part";
}

TEST_F(Resume, TheLogGoesOnWhereTheCheckpointIs) {
  const TrainOptions options = {.steps = 20, .validation = 0.25};
  const auto logged = [&](TrainingProblem& problem, RunOptions to, const char* name) {
    to.log_to = folder_ / name;
    train(problem.task(), options, to);
  };
  TrainingProblem whole, first, second(1);
  logged(whole, {}, "whole");
  first.on_forward = [](int64_t number) {
    if (number == 9) std::raise(SIGINT);
  };
  EXPECT_THROW(logged(first, run(false), "cut"), Interrupted);
  {  // as if it had gone on for a while after its checkpoint, and been killed then
    std::ofstream more(folder_ / "cut" / "metrics.jsonl", std::ios::app);
    more << R"({"step": 19, "train/loss": 1})"
         << "\n"
         << R"({"step": 20, "tr)";
  }
  logged(second, run(true), "cut");
  const auto losses = [&](const char* name) {
    std::vector<std::string> found;
    std::ifstream file(folder_ / name / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      const auto json = nlohmann::json::parse(line);
      const auto* key = json.contains("train/loss") ? "train/loss" : "validation/loss";
      found.push_back(json["step"].dump() + " " + json[key].dump());
    }
    return found;
  };
  EXPECT_EQ(losses("cut"), losses("whole"));
}

TEST_F(Resume, AtTheLastStepOnlyTheEndIsLeft) {
  TrainingProblem whole;
  train(whole.task(), {.steps = 6, .validation = 0.25});
  interrupt_at(6, {.steps = 6, .validation = 0.25});
  TrainingProblem resumed(1);
  EXPECT_EQ(train(resumed.task(), {.steps = 6, .validation = 0.25}, run(true)).steps, 6);
  EXPECT_TRUE(at::equal(resumed.weights(), whole.weights()));
}

TEST_F(Resume, InterruptSaysWhatIsOnDisk) {
  TrainingProblem problem;
  problem.on_forward = [](int64_t number) {
    if (number == 3) std::raise(SIGINT);
  };
  LOWRANK_EXPECT_ERROR(train(problem.task(), {.steps = 9}, run(false)), Interrupted,
                       "[train] the run was interrupted at step 3 of 9. Its state is in \"" +
                           checkpoint_.string() + "\"; go on with RunOptions::resume.");
  EXPECT_EQ(checkpoint_identity(checkpoint_), "the run");
  problem.forwards = 0;
  LOWRANK_EXPECT_ERROR(train(problem.task(), {.steps = 9}), Interrupted, "Nothing was saved.");
}

TEST_F(Resume, AnInterruptDoesNotWaitForTheOtherBatchesOfAStep) {
  TrainingProblem problem;
  problem.on_forward = [](int64_t number) {
    if (number == 3) std::raise(SIGINT);
  };
  LOWRANK_EXPECT_ERROR(
      train(problem.task(), {.steps = 1, .batch_size = 6, .accumulate = 100}, run(false)),
      Interrupted, "interrupted at step 0 of 1.");
  EXPECT_EQ(problem.forwards, 3);
  const auto counters = SafetensorsFile::open(checkpoint_).metadata().at("lowrank.counters");
  EXPECT_NE(counters.find("\"loss_count\":0"), std::string::npos) << counters;
}

TEST_F(Resume, SigtermStopsCleanlyToo) {
  TrainingProblem problem;
  problem.on_forward = [](int64_t number) {
    if (number == 2) std::raise(SIGTERM);
  };
  LOWRANK_EXPECT_ERROR(train(problem.task(), {.steps = 9}, run(false)), Interrupted,
                       "at step 2 of 9");
}

TEST_F(Resume, AClosedTerminalStopsCleanlyUnlessItIsIgnored) {
  TrainingProblem problem;
  problem.on_forward = [](int64_t number) {
    if (number == 2) std::raise(SIGHUP);
  };
  const auto before = std::signal(SIGHUP, SIG_DFL);
  LOWRANK_EXPECT_ERROR(train(problem.task(), {.steps = 9}, run(false)), Interrupted,
                       "at step 2 of 9");
  std::signal(SIGHUP, SIG_IGN);
  problem.forwards = 0;
  EXPECT_EQ(train(problem.task(), {.steps = 9}, run(false)).steps, 9);
  std::signal(SIGHUP, before);
}

TEST_F(Resume, HandlersBeforeARunComeBack) {
  static volatile std::sig_atomic_t calls = 0;
  const auto before = std::signal(SIGINT, [](int) { calls = calls + 1; });
  {
    const InterruptGuard guard;
    EXPECT_FALSE(interrupted());
    std::raise(SIGINT);
    EXPECT_TRUE(interrupted());
  }
  std::raise(SIGINT);
  EXPECT_EQ(calls, 1);
  const InterruptGuard next;
  EXPECT_FALSE(interrupted()) << "the flag of the guard before";
  std::signal(SIGINT, before);
}

TEST_F(Resume, RefusesAnotherRunsCheckpoint) {
  interrupt_at(3, {.steps = 9});
  TrainingProblem problem;
  auto other = run(true);
  other.identity = "another run";
  LOWRANK_EXPECT_ERROR(
      train(problem.task(), {.steps = 9}, other), FileError,
      "must be a checkpoint of this run. Got that of \"the run\". Give the options "
      "that the run was started with.");
  auto named = run(false);
  named.identity = R"({"data": "mnist", "train": {"steps": 9, "lr": 1}})";
  problem.on_forward = [](int64_t number) {
    if (number == 3) std::raise(SIGINT);
  };
  EXPECT_THROW(train(problem.task(), {.steps = 9}, named), Interrupted);
  named.resume = true;
  named.identity = R"({"data": "mnist", "train": {"steps": 12, "lr": 1}})";
  LOWRANK_EXPECT_ERROR(train(problem.task(), {.steps = 9}, named), FileError,
                       "[resume] train.steps must be 9, as in \"" + checkpoint_.string() +
                           "\". Got 12. Give the options that the run was started with.");
}

TEST_F(Resume, RefusesAMissingOrDamagedCheckpoint) {
  expect_refused("[resume] \"" + checkpoint_.string() + "\" must exist. Got no such file.");
  interrupt_at(3, {.steps = 9});
  const auto bytes = read_bytes(checkpoint_);
  folder_.write("checkpoint.safetensors", bytes.substr(0, bytes.size() - 1));
  expect_refused(checkpoint_.string());
  folder_.write("checkpoint.safetensors", bytes.substr(0, 100));
  expect_refused("[safetensors]");
}

TEST_F(Resume, RefusesACheckpointWithoutItsParts) {
  const std::string counters =
      R"({"step":1,"loss_sum":1,"loss_count":1,"last_mean":0,"point_sum":0,
          "seconds":0,"best_step":0,"best_loss":0})";
  write_safetensors(checkpoint_, {});
  expect_refused("must be a checkpoint. Got a file without lowrank.identity in its metadata.");
  write_safetensors(checkpoint_, {}, {{"lowrank.identity", "the run"}});
  expect_refused("without lowrank.counters");
  write_safetensors(checkpoint_, {}, {{"lowrank.identity", "the run"}, {"lowrank.counters", "{"}});
  expect_refused("must be valid JSON");
  write_safetensors(checkpoint_, {},
                    {{"lowrank.identity", "the run"}, {"lowrank.counters", "{\"step\": 1}"}});
  expect_refused("must hold a run's counters. Got {\"step\":1}.");
  write_safetensors(checkpoint_, {},
                    {{"lowrank.identity", "the run"}, {"lowrank.counters", counters}});
  expect_refused("without lowrank.history");
  for (const std::string history : {"{}", "3", R"({"points": [[1]], "validations": []})"}) {
    write_safetensors(checkpoint_, {},
                      {{"lowrank.identity", "the run"},
                       {"lowrank.counters", counters},
                       {"lowrank.history", history}});
    expect_refused("must hold a run's history");
  }
  const std::map<std::string, std::string> metadata = {{"lowrank.identity", "the run"},
                                                       {"lowrank.counters", counters},
                                                       {"lowrank.history", kNoHistory}};
  write_safetensors(checkpoint_, {}, metadata);
  expect_refused("parameter.linear1.weight");
  write_safetensors(checkpoint_, {{"parameter.linear1.weight", at::ones({2, 2})}}, metadata);
  expect_refused("must be Float of shape (12, 16). Got Float of shape (2, 2).");
}

TEST_F(Resume, RefusesAGeneratorThatIsNone) {
  interrupt_at(3, {.steps = 9});
  const auto file = SafetensorsFile::open(checkpoint_);
  std::vector<SafetensorsEntry> entries;
  for (const auto& name : file.names()) entries.push_back({name, file.tensor(name).clone()});
  for (const auto& state :
       {at::zeros({3}, at::kByte), at::zeros({5056}), at::zeros({5056}, at::kByte)}) {
    for (auto& entry : entries) {
      if (entry.name == "generator") entry.tensor = state;
    }
    write_safetensors(checkpoint_, entries, file.metadata());
    expect_refused("the checkpoint must hold the state of LibTorch's generator. Got ");
  }
}

TEST_F(Resume, RefusesCountersThatNoRunHas) {
  interrupt_at(3, {.steps = 9});
  const auto file = SafetensorsFile::open(checkpoint_);
  std::vector<SafetensorsEntry> entries;
  for (const auto& name : file.names()) entries.push_back({name, file.tensor(name).clone()});
  for (const std::string step : {"-3", "10", "1.5", "\"1\""}) {
    write_safetensors(checkpoint_, entries,
                      {{"lowrank.identity", "the run"},
                       {"lowrank.counters", "{\"step\":" + step +
                                                ",\"loss_sum\":1,\"loss_count\":1,\"last_mean\":0,"
                                                "\"point_sum\":0,\"seconds\":0,"
                                                "\"best_step\":0,\"best_loss\":0}"},
                       {"lowrank.history", kNoHistory},
                       {"lowrank.adam_steps", file.metadata().at("lowrank.adam_steps")}});
    expect_refused(checkpoint_.string());
  }
}

}  // namespace
}  // namespace lowrank
