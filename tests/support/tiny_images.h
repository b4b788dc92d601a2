#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>

#include "app/images/idx_files.h"
#include "support/temporary_folder.h"

namespace lowrank {

/// A data set in MNIST's layout that a small net learns in a second.
struct TinySet {
  uint32_t train = 300;
  uint32_t test = 200;
  uint32_t classes = 10;  // labels run from 0 to classes - 1
  uint32_t noise = 160;   // of 256: how much of each pixel is random
};

/// Writes images of 4 x 4 pixels: a pattern for each class, and noise. The pattern of 7 is similar
/// to that of 2, so that some images are confused. Image i has the label i modulo the number of
/// classes.
inline void write_tiny_half(const TemporaryFolder& folder, const std::string& half, uint32_t count,
                            uint32_t seed, const TinySet& set) {
  std::mt19937 patterns(1);
  std::string pattern;
  for (uint32_t i = 0; i < set.classes * 16; ++i) pattern += static_cast<char>(patterns() % 256);
  for (uint32_t p = 0; set.classes > 7 && p < 12; ++p) pattern[7 * 16 + p] = pattern[2 * 16 + p];

  std::mt19937 random(seed);
  std::string pixels;
  std::string labels;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t label = i % set.classes;
    labels += static_cast<char>(label);
    for (uint32_t p = 0; p < 16; ++p) {
      const uint32_t value = static_cast<unsigned char>(pattern[label * 16 + p]);
      const uint32_t chance = random() % 256;
      pixels += static_cast<char>((value * (256 - set.noise) + chance * set.noise) / 256);
    }
  }
  folder.write(half + "-images-idx3-ubyte", app::idx_bytes({count, 4, 4}, pixels));
  folder.write(half + "-labels-idx1-ubyte", app::idx_bytes({count}, labels));
}

/// Writes the four files of the set into `folder` and returns its path, as a command's argument.
inline std::string write_tiny_images(const TemporaryFolder& folder, const TinySet& set = {}) {
  write_tiny_half(folder, "train", set.train, 10, set);
  write_tiny_half(folder, "t10k", set.test, 11, set);
  return folder.path().string();
}

}  // namespace lowrank
