#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

/// Plots as SVG, drawn by gnuplot.
namespace lowrank::app {

/// A text that is known when the program is compiled. gnuplot runs commands that it finds in texts,
/// so none that comes from a file may reach it.
class FixedText {
 public:
  consteval FixedText(const char* text)  // NOLINT(google-explicit-constructor): "steps"
      : text_(text) {}
  const char* text() const { return text_; }

 private:
  const char* text_;
};

/// Points (x, y); those that are not finite are left out, and on a logarithmic axis those that are
/// not above 0.
using Points = std::vector<std::pair<double, double>>;

struct Curve {
  std::string name;  ///< for the legend, which is HTML
  Points points;
  bool has_marks = false;  ///< a mark at each point, for few of them
};

struct Plot {
  FixedText x, y;  ///< what the axes show, with the unit
  std::vector<Curve> curves;
  bool is_logarithmic = false;  ///< the y axis
  bool is_scattered = false;    ///< marks alone, and a y axis from 0
};

/// The number of colours and dashes that tell curves apart; the next curve begins anew.
inline constexpr int kCurveStyles = 6;

/// Throws Error if gnuplot is not installed, and FileError if there is no place for its files.
void require_gnuplot();

/// Draws all plots in one run of gnuplot. Returns an <svg> element for each, or an empty text for a
/// plot without points. Its colours are the CSS variables --ink and --curve-0 to --curve-5, and all
/// of its ids begin with "plot" and its number, so that several can stand in one page. Throws what
/// require_gnuplot() throws, and Error if gnuplot fails.
std::vector<std::string> draw(const std::vector<Plot>& plots);

/// The most points of a curve in a page.
inline constexpr size_t kMostPoints = 64;

/// Leaves at most `most` of the points: the first, the last, and those between at even distances
/// (logarithmic ones if `by_rank`, whose first points matter most).
Points thinned(const Points& points, size_t most, bool by_rank = false);

}  // namespace lowrank::app
