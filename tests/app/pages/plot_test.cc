#include "app/pages/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <regex>
#include <set>
#include <string>

#include "support/expect_error.h"
#include "support/scoped_environment.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

using testing::HasSubstr;
using testing::Not;

Points line(int count) {
  Points points;
  for (int i = 0; i < count; ++i) points.emplace_back(i, 2.0 * i + 1);
  return points;
}

TEST(Draw, GivesAnElementForEachPlot) {
  const auto drawn = draw({{.x = "step", .y = "loss", .curves = {{"a", line(5)}, {"b", line(9)}}},
                           {.x = "rank", .y = "energy (%)", .curves = {{"c", line(3), true}}}});
  ASSERT_EQ(drawn.size(), 2U);
  for (const auto& svg : drawn) {
    EXPECT_EQ(svg.find("<svg"), 0U);
    EXPECT_THAT(svg, HasSubstr("</svg>"));
    EXPECT_THAT(svg, HasSubstr("var(--curve-0)"));
    EXPECT_THAT(svg, Not(HasSubstr("<script")));
  }
  EXPECT_THAT(drawn[0], HasSubstr("var(--curve-1)"));
  EXPECT_THAT(drawn[0], HasSubstr(">loss</"));
  EXPECT_THAT(drawn[1], HasSubstr(">energy (%)</"));
}

/// Several of them stand in one page, in which every id must be unique.
TEST(Draw, GivesIdsOfItsOwn) {
  const Plot plot{.x = "step", .y = "loss", .curves = {{"a", line(4), true}}};
  std::set<std::string> ids;
  const std::regex id(" id=[\"']([^\"']+)"), reference("(?:href=[\"']#|url\\(#)([^\"')]+)");
  for (const auto& svg : draw({plot, plot})) {
    std::set<std::string> own;
    for (std::sregex_iterator at(svg.begin(), svg.end(), id), end; at != end; ++at) {
      EXPECT_TRUE(ids.insert((*at)[1]).second) << (*at)[1];
      own.insert((*at)[1]);
    }
    for (std::sregex_iterator at(svg.begin(), svg.end(), reference), end; at != end; ++at) {
      EXPECT_TRUE(own.contains((*at)[1])) << (*at)[1];
    }
  }
  EXPECT_FALSE(ids.empty());
}

TEST(Draw, LeavesOutWhatNoAxisHas) {
  constexpr auto kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr auto kInf = std::numeric_limits<double>::infinity();
  const auto drawn = draw(
      {{.x = "step", .y = "loss", .curves = {{"a", {{1, kNan}, {2, kInf}, {kNan, 3}}}, {"b", {}}}},
       {.x = "step", .y = "loss", .curves = {{"a", {{1, 0}, {2, -1}}}}, .is_logarithmic = true},
       {.x = "step", .y = "loss", .curves = {{"a", {{1, kNan}, {2, 5}, {3, 1e308}, {-1e308, 4}}}}},
       {.x = "step", .y = "loss", .curves = {}}});
  EXPECT_EQ(drawn[0], "");
  EXPECT_EQ(drawn[1], "");
  EXPECT_NE(drawn[2], "");
  EXPECT_EQ(drawn[3], "");
}

TEST(Draw, SaysWhatIsMissingWithoutGnuplot) {
  const ScopedEnvironment path("PATH", "/nonexistent");
  const Plot plot{.x = "step", .y = "loss", .curves = {{"a", line(3)}}};
  LOWRANK_EXPECT_ERROR(draw({plot}), Error,
                       "[report] gnuplot must draw the plots. Got no such program. "
                       "Install it (apt-get install gnuplot-nox).");
}

TEST(Draw, SaysWhatFailed) {
  const Plot plot{.x = "step", .y = "loss", .curves = {{"a", line(3)}}};
  {
    const ScopedEnvironment none("TMPDIR", "/nonexistent");
    LOWRANK_EXPECT_ERROR(draw({plot}), FileError,
                         "[report] TMPDIR must name a folder. Got \"/nonexistent\".");
  }
  for (const std::string script : {"exit 3", "exit 0"}) {  // and draws nothing
    const TemporaryFolder folder;
    const auto fake = folder.write("gnuplot", "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(fake, std::filesystem::perms::owner_all);
    const ScopedEnvironment path("PATH", folder.path().string());
    LOWRANK_EXPECT_ERROR(draw({plot}), Error, "[report] gnuplot must draw the plots. Got ");
  }
}

TEST(Thinned, KeepsBothEnds) {
  const auto all = line(1000);
  for (const bool by_rank : {false, true}) {
    const auto few = thinned(all, 64, by_rank);
    EXPECT_LE(few.size(), 64U);
    EXPECT_GT(few.size(), 50U);
    EXPECT_EQ(few.front(), all.front());
    EXPECT_EQ(few.back(), all.back());
    for (size_t i = 1; i < few.size(); ++i) EXPECT_LT(few[i - 1].first, few[i].first);
  }
  EXPECT_EQ(thinned(all, 64, /*by_rank=*/true)[5], all[5]) << "the first ones are all there";
  EXPECT_EQ(thinned(line(64), 64), line(64));
  EXPECT_TRUE(thinned({}, 64).empty());
}

}  // namespace
}  // namespace lowrank::app
