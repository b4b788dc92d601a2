# Which fmt to build with: LOWRANK_FMT. LibTorch 2.x brings headers of a newer fmt, which are found
# before the system's and do not match its library; with those, fmt is used without a library.
find_package(fmt REQUIRED)
set(LOWRANK_FMT fmt::fmt)
foreach(folder IN LISTS TORCH_INCLUDE_DIRS)
  if(EXISTS ${folder}/fmt/format.h)
    set(LOWRANK_FMT fmt::fmt-header-only)
  endif()
endforeach()
