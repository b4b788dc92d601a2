#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/pages/plot.h"

/// Pages of HTML that need nothing but their one file: no script, no font, nothing from elsewhere.
/// They follow the reader's light or dark theme, fit a phone, and can be printed.
namespace lowrank::app {

/// Cells of a table. The first column is aligned to the left, the others to the right.
using Rows = std::vector<std::vector<std::string>>;

/// The most rows of a table, and the most layers of a model.
inline constexpr size_t kMostRows = 2000;

/// The most rows and columns of a heat map, and the most rows of bars.
inline constexpr size_t kMostCells = 64;

/// The most images beside each other.
inline constexpr size_t kMostImages = 64;

/// What a row of bars is called, and for each bar its length, 0 to 1, and the text behind it.
using BarRow = std::pair<std::string, std::vector<std::pair<double, std::string>>>;

/// A matrix whose cells are shaded by their share of the largest; those below 0 have another
/// colour.
struct HeatMap {
  enum class Kind {
    kConfusion,   ///< counts; the diagonal is not shaded, since it would outshine the rest
    kDifference,  ///< of counts, with signs
    kShades,      ///< numbers, which are shown as shades alone
  };
  std::vector<std::string> names =
      {};  ///< of rows and columns; those that are missing are numbered
  std::vector<std::vector<double>> cells;
  Kind kind = Kind::kConfusion;
};

class Page {
 public:
  explicit Page(std::string title) : title_(std::move(title)) {}

  /// Texts and cells may come from files: they are escaped.
  void heading(std::string_view text);
  void smaller_heading(std::string_view text);
  void paragraph(std::string_view text);
  /// `more` counts the rows that there was no room for.
  void table(const std::vector<std::string>& header, const Rows& rows, size_t more = 0);
  /// A table of sentences, all aligned to the left.
  void texts(const std::vector<std::string>& header, const Rows& rows);
  /// A table that is folded up until the reader opens it.
  void folded_table(std::string_view summary, const std::vector<std::string>& header,
                    const Rows& rows, size_t more = 0);
  /// A plot with its legend, and its numbers in a folded table. `caption` says what it shows.
  void plot(std::string_view caption, const Plot& plot);
  /// Several maps beside each other, each with a caption.
  void heat_maps(const std::vector<std::pair<std::string, HeatMap>>& maps);
  /// Images beside each other, each with a caption. `pngs` are PNG files in base64.
  void images(const std::vector<std::pair<std::string, std::string>>& pngs);
  void bars(const std::vector<std::string>& header, const std::vector<BarRow>& rows);
  /// Squares whose areas are in proportion to these amounts, each with its name.
  void areas(const std::vector<std::pair<std::string, double>>& amounts);
  /// What follows is folded up under this text until end_fold().
  void begin_fold(std::string_view summary);
  void end_fold();

  /// Draws the plots and returns the whole page. Throws what draw() throws.
  std::string text() const;

 private:
  std::string title_;
  std::vector<std::string> parts_;  // HTML, with an empty text where a plot goes
  std::vector<Plot> plots_;         // in the order of their places
};

}  // namespace lowrank::app
