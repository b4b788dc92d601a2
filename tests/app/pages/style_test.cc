#include "app/pages/style.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <regex>
#include <string>

namespace lowrank::app {
namespace {

using Colours = std::map<std::string, std::array<double, 3>>;

/// The colours that a part of the style sheet defines: linear light, 0 to 1.
Colours colours_in(const std::string& css) {
  Colours colours;
  const std::regex definition("--([a-z0-9-]+): #([0-9a-f]{6})");
  for (std::sregex_iterator at(css.begin(), css.end(), definition), end; at != end; ++at) {
    auto& colour = colours[(*at)[1]];
    for (size_t i = 0; i < 3; ++i) {
      const double value = std::stoi((*at)[2].str().substr(2 * i, 2), nullptr, 16) / 255.0;
      colour[i] = value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4);
    }
  }
  return colours;
}

std::pair<Colours, Colours> themes() {
  const std::string css = kPageStyle;
  const auto dark = css.find("prefers-color-scheme: dark");
  return {colours_in(css.substr(0, dark)), colours_in(css.substr(dark))};
}

double luminance(const std::array<double, 3>& c) {
  return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
}

/// The contrast of WCAG 2.1.
double contrast(const std::array<double, 3>& a, const std::array<double, 3>& b) {
  const double first = luminance(a) + 0.05, second = luminance(b) + 0.05;
  return std::max(first, second) / std::min(first, second);
}

/// What people see who lack the cones for long or for middle wavelengths (Viénot, Brettel and
/// Mollon 1999), which is nearly all colour blindness.
std::array<double, 3> as_dichromat(const std::array<double, 3>& c, bool lacks_long) {
  const double red = lacks_long ? 0.11238 * c[0] + 0.88762 * c[1] : 0.29275 * c[0] + 0.70725 * c[1];
  const double blue = lacks_long ? 0.00401 * (c[0] - c[1]) + c[2] : -0.02234 * (c[0] - c[1]) + c[2];
  return {red, red, blue};
}

/// The distance of two colours in CIELAB.
double distance(const std::array<double, 3>& a, const std::array<double, 3>& b) {
  const auto lab = [](const std::array<double, 3>& c) {
    const auto f = [](double t) { return t > 0.008856 ? std::cbrt(t) : 7.787 * t + 16.0 / 116; };
    const double x = (0.4124 * c[0] + 0.3576 * c[1] + 0.1805 * c[2]) / 0.95047;
    const double y = luminance(c);
    const double z = (0.0193 * c[0] + 0.1192 * c[1] + 0.9505 * c[2]) / 1.08883;
    return std::array<double, 3>{116 * f(y) - 16, 500 * (f(x) - f(y)), 200 * (f(y) - f(z))};
  };
  const auto p = lab(a), q = lab(b);
  return std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
}

TEST(PageStyle, HasReadableTextsInBothThemes) {
  const auto [light, dark] = themes();
  for (const auto* theme : {&light, &dark}) {
    const auto& paper = theme->at("paper");
    for (const char* name : {"ink", "soft", "good", "bad"}) {
      EXPECT_GE(contrast(theme->at(name), paper), 4.5) << name;
    }
    for (const char* shade : {"more", "less"}) {  // below numbers, at most 45 % of them
      std::array<double, 3> mixed{};
      for (size_t i = 0; i < 3; ++i) mixed[i] = 0.45 * theme->at(shade)[i] + 0.55 * paper[i];
      EXPECT_GE(contrast(theme->at("ink"), mixed), 4.5) << shade;
    }
    for (int i = 0; i < 6; ++i) {
      EXPECT_GE(contrast(theme->at("curve-" + std::to_string(i)), paper), 3) << i;
    }
  }
}

TEST(PageStyle, HasCurvesThatTheColourBlindTellApart) {
  const auto [light, dark] = themes();
  for (const auto* theme : {&light, &dark}) {
    for (int i = 0; i < 6; ++i) {
      for (int j = 0; j < i; ++j) {
        const auto& a = theme->at("curve-" + std::to_string(i));
        const auto& b = theme->at("curve-" + std::to_string(j));
        for (const bool lacks_long : {false, true}) {
          EXPECT_GE(distance(as_dichromat(a, lacks_long), as_dichromat(b, lacks_long)), 8)
              << i << " and " << j << (theme == &dark ? ", dark" : ", light") << lacks_long;
        }
      }
    }
  }
}

}  // namespace
}  // namespace lowrank::app
