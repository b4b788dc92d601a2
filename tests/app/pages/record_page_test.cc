// Covers app/pages: record_page, the sections, page, json_values.
#include "app/pages/record_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lowrank::app {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::ordered_json;

Json spectrum(int count) {
  Json values = Json::array();
  double energy = 0;
  for (int i = 0; i < count; ++i) {
    values.push_back(1.0 / (1 + i));
    energy += 1.0 / ((1 + i) * (1 + i));
  }
  return {{"singular_values", values}, {"energy", energy}, {"count", count}};
}

Json layer(const std::string& name) {
  return {{"name", name},   {"shape", {100, 200}},    {"rank", 4},
          {"scaling", 1.0}, {"weight", spectrum(64)}, {"update", spectrum(4)}};
}

RunRecord run_of(const std::string& name, const std::vector<std::string>& classes) {
  RunRecord run{.name = name, .training = {}, .history = {}, .figures = {}, .config = {}};
  run.training =
      Json::parse(R"({"run": {"data": "mnist", "seed": 0, "lora": {"r": 4, "lora_alpha": 8}}, )"
                  R"("result": {"steps": 1234, "mean_loss": 0.25}})");
  run.history =
      Json::parse(R"({"points": [[10, 2.0, 0.001], [20, 1.0, 0.0005]], )"
                  R"("validations": [{"step": 10, "loss": 2.5}, {"step": 20, "loss": 1.5}]})");
  run.figures = Json::parse(
      R"({"parameters": 2807010, "adapter_parameters": 6794, "evaluation": {)"
      R"("off": {"accuracy": 0.5, "total": 4, "wrong_by_class": [2, 0], "confusion": [[0, 2], [0, 2]]}, )"
      R"("on": {"accuracy": 0.75, "total": 4, "wrong_by_class": [0, 1], "confusion": [[2, 0], [1, 1]]}, )"
      R"("mended": {"count": 7, "images": [{"index": 3, "label": "a", "before": "b", "after": "a", )"
      R"("png": "AAAA"}]}}})");
  run.figures["evaluation"]["class_names"] = classes;
  run.figures["layers"] = Json::array({layer("first"), layer("second")});
  return run;
}

std::string page_of(const std::vector<RunRecord>& runs) {
  return page_about(
      {{.name = "run", .runs = runs, .notebook = nullptr, .weights = nullptr, .svd = nullptr}});
}

TEST(RecordPage, ShowsWhatTheRunLeft) {
  const auto page = page_of({run_of("two", {"cat", "dog"})});
  EXPECT_THAT(page, AllOf(HasSubstr("<td>1,234</td>"), HasSubstr("0.7500"), HasSubstr(">cat<"),
                          HasSubstr("Mended by two (7 in all)"), HasSubstr("6,794"),
                          HasSubstr("0.242 % of the base"), HasSubstr("two, on minus off"),
                          HasSubstr("Layers of two"), HasSubstr("two, validation"),
                          HasSubstr("data:image/png;base64,AAAA")));
  // A run's losses, its rates, two plots for each layer, and two squares.
  size_t drawings = 0;
  for (auto at = page.find("<svg"); at != std::string::npos; at = page.find("<svg", at + 1)) {
    ++drawings;
  }
  EXPECT_EQ(drawings, 8U);
  EXPECT_THAT(page, AllOf(Not(HasSubstr("<script")),
                          Not(HasSubstr("http://www.w3.org/1999/xlink\" xlink:href=\"http")),
                          Not(HasSubstr("src=\"http")), Not(HasSubstr("@import"))));
}

/// Nothing that a file says is obeyed by a browser or by gnuplot.
TEST(RecordPage, EscapesWhatFilesSay) {
  const std::string evil = "</style><script>x</script>\"`touch /tmp/lowrank-was-here`\u202Ex\u202C";
  auto run = run_of(evil, {evil, "dog"});
  run.figures["layers"][0]["name"] = evil;
  run.figures["evaluation"]["mended"]["images"][0]["png"] = "\"><script>";
  run.training["run"][evil] = evil;
  Json notebook, weights;
  notebook["checks"].push_back({{"ok", true}, {"meaning", evil}, {"detail", evil}});
  weights["layers"].push_back({{"name", evil}, {"rank", evil}});
  weights["notes"].push_back(evil);
  weights["whole"].push_back(evil);
  const auto page = page_about(
      {{.name = evil, .runs = {run}, .notebook = notebook, .weights = weights, .svd = nullptr}});
  EXPECT_THAT(page, AllOf(Not(HasSubstr("<script")), Not(HasSubstr("\u202Ex\u202C")),
                          HasSubstr("&lt;script&gt;")));
  EXPECT_EQ(page.find("</style>"), page.rfind("</style>"));
}

/// What an older version or a hand has written: figures that are missing, of other types, not
/// finite.
TEST(RecordPage, ShowsWhatItUnderstands) {
  auto run = run_of("two", {});
  run.history =
      Json::parse(R"({"points": [[1, null, 0.1], [2, "x"], 7, [3, 0.5, 0.1]], "validations": 3})");
  run.figures = Json::parse(
      R"({"parameters": "many", "layers": [{"name": 3, "weight": {"singular_values": "no"}}, 4], )"
      R"("evaluation": {"off": {"wrong_by_class": [1, "x"], "confusion": [[1, 2], [3]]}, "on": 7}})");
  run.training = Json::parse(R"({"run": [1], "result": 5})");
  const auto page = page_of({run});
  EXPECT_THAT(page, AllOf(HasSubstr("Loss by step"), HasSubstr("Layers of two")));
  EXPECT_THAT(
      page_of({{.name = "empty", .training = {}, .history = {}, .figures = {}, .config = {}}}),
      HasSubstr("empty"));
}

TEST(RecordPage, PutsRunsSideBySide) {
  const auto page = page_about({{.name = "a",
                                 .runs = {run_of("a", {})},
                                 .notebook = nullptr,
                                 .weights = nullptr,
                                 .svd = nullptr},
                                {.name = "b",
                                 .runs = {run_of("adapter", {})},
                                 .notebook = nullptr,
                                 .weights = nullptr,
                                 .svd = nullptr}});
  EXPECT_THAT(page, AllOf(HasSubstr("lowrank report: a, b"), HasSubstr("<th>b/adapter</th>"),
                          HasSubstr("Layers of b/adapter")));
}

TEST(RecordPage, ShowsErrorsOfWeightCommands) {
  const auto report = Json::parse(
      R"({"layers": [{"name": "q", "shape": [8, 4], "rank": 2, "norm": 3.5, "error": )"
      R"({"frobenius": 0.1, "relative_frobenius": 0.0286, "spectral": 0.05, "retained_energy": 0.99918}}], )"
      R"("total": {"relative_frobenius": 0.0387, "retained_energy": 0.999976}, "parameters": 24, )"
      R"("whole": ["norm.weight"], "skipped": [], "notes": ["a note"]})");
  const auto page = page_about(
      {{.name = "small", .runs = {}, .notebook = nullptr, .weights = report, .svd = nullptr}});
  EXPECT_THAT(page,
              AllOf(HasSubstr("8 x 4"), HasSubstr("0.0286"), HasSubstr("99.9180 %"),
                    HasSubstr("relative error 0.0387, energy kept 99.9976 %"),
                    HasSubstr("norm.weight"), HasSubstr("a note"), HasSubstr("24 parameters")));
}

TEST(RecordPage, HasRoomForAThousandLayers) {
  auto run = run_of("large", {});
  run.figures["layers"] = Json::array();
  for (int i = 0; i < 1000; ++i)
    run.figures["layers"].push_back(layer("layer" + std::to_string(i)));
  const auto page = page_of({run});
  EXPECT_THAT(page, HasSubstr("layer999, rank 4"));
  EXPECT_LT(page.size(), 20'000'000U);
}

/// A record may claim any number of anything, and a text of any length.
TEST(RecordPage, LeavesOutWhatItHasNoRoomFor) {
  auto run = run_of("vast", {});
  const auto image = run.figures["evaluation"]["mended"]["images"][0];
  run.figures["layers"] = Json::array({layer("the only one")});
  for (int i = 0; i < 100'000; ++i) run.figures["layers"].push_back(0);
  run.figures["evaluation"]["mended"]["images"] = Json(1000, image);
  run.figures["evaluation"]["off"]["wrong_by_class"] = Json(5000, 1);
  run.figures["evaluation"]["off"]["confusion"] = Json(300, Json(300, 1));
  Json weights, record;
  weights["layers"] = Json(5000, {{"name", std::string(3000, 'x')}});
  weights["whole"] = Json(5000, "norm.weight");
  record["maps"]["W"] = Json(2000, Json(2000, 0.5));
  const auto page = page_about(
      {{.name = "vast", .runs = {run}, .notebook = nullptr, .weights = weights, .svd = record}});
  EXPECT_THAT(page, AllOf(HasSubstr("the only one, rank 4"), HasSubstr("3,000 more are not shown"),
                          HasSubstr("4936 more classes"), HasSubstr("xxx…")));
  EXPECT_LT(page.size(), 5'000'000U);
}

}  // namespace
}  // namespace lowrank::app
