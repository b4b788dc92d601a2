# `make install`: the command, the library, its headers, and what CMake and pkg-config need to use
# it. The prefix may be moved: the command finds the library, and the package its files, by paths
# relative to their own. A LibTorch outside the system's folders is found where it was at build
# time.
include(CMakePackageConfigHelpers)

install(TARGETS lowrank EXPORT lowrankTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(LOWRANK_BUILD_CLI)
  install(TARGETS lowrank_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(TARGETS lowrank_program RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/lowrank)
  install(DIRECTORY ${PROJECT_BINARY_DIR}/cli/share/ DESTINATION ${CMAKE_INSTALL_DATADIR})
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/lowrank
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/README.md
              ${PROJECT_SOURCE_DIR}/CONTRIBUTING.md
  ${PROJECT_SOURCE_DIR}/CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs ${PROJECT_SOURCE_DIR}/examples
  DESTINATION ${CMAKE_INSTALL_DOCDIR})

# find_package(lowrank CONFIG): docs/library.md
set(LOWRANK_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/lowrank)
string(REGEX MATCH "^[0-9]+\\.[0-9]+" LOWRANK_LIBTORCH "${Torch_VERSION}")
configure_file(${PROJECT_SOURCE_DIR}/cmake/lowrankConfig.cmake.in
  ${PROJECT_BINARY_DIR}/lowrankConfig.cmake @ONLY)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/lowrankConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(EXPORT lowrankTargets NAMESPACE lowrank:: DESTINATION ${LOWRANK_PACKAGE_DIR})
install(FILES ${PROJECT_BINARY_DIR}/lowrankConfig.cmake
  ${PROJECT_BINARY_DIR}/lowrankConfigVersion.cmake
  DESTINATION ${LOWRANK_PACKAGE_DIR})

# pkg-config lowrank: LibTorch has no pkg-config file, so ours has LibTorch's flags too, if the
# compiler would not find it by itself.
set(LOWRANK_PC_CFLAGS ${TORCH_CXX_FLAGS})
foreach(folder IN LISTS TORCH_INCLUDE_DIRS)
  if(NOT folder IN_LIST CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES)
    string(APPEND LOWRANK_PC_CFLAGS " -isystem ${folder}")
  endif()
endforeach()
set(LOWRANK_PC_LIBS "-ltorch -ltorch_cpu -lc10")
if(LOWRANK_TORCH_RPATH)
  string(PREPEND LOWRANK_PC_LIBS "-L${LOWRANK_TORCH_RPATH} -Wl,-rpath,${LOWRANK_TORCH_RPATH} ")
endif()
string(REGEX REPLACE "[^/]+" ".." LOWRANK_PC_PREFIX ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
configure_file(${PROJECT_SOURCE_DIR}/cmake/lowrank.pc.in ${PROJECT_BINARY_DIR}/lowrank.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/lowrank.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
