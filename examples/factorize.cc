// Factorizes a matrix, W ≈ B·A, with the smallest rank that keeps 99 % of its energy. Writes
// B.npy (m, r) and A.npy (r, n), and prints how close their product is to W:
//
//     factorize MATRIX.npy FOLDER
//
// It includes only the headers that it uses, which compiles faster than lowrank/lowrank.h.
#include <lowrank/io/npy.h>
#include <lowrank/linalg/error_figures.h>
#include <lowrank/linalg/factorize.h>

#include <exception>
#include <filesystem>
#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: factorize MATRIX.npy FOLDER");
  const auto w = lowrank::read_npy(argv[1]);
  const auto [b, a] = lowrank::factorize(w, lowrank::RankRule::energy(0.99));
  const auto error = lowrank::error_figures(w, b, a);

  const std::filesystem::path folder = argv[2];
  std::filesystem::create_directories(folder);
  lowrank::write_npy(folder / "B.npy", b);
  lowrank::write_npy(folder / "A.npy", a);
  std::cout << "rank " << a.size(0) << ": " << w.numel() << " numbers become "
            << b.numel() + a.numel() << ", relative error " << error.relative_frobenius
            << ", energy kept " << error.retained_energy << '\n';
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
