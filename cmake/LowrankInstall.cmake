# `make install`: the command, the library and the headers. The command finds the library beside
# itself, so the prefix may be moved; a LibTorch outside the system's folders is found where it
# was at build time.
install(TARGETS lowrank
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(LOWRANK_BUILD_CLI)
  install(TARGETS lowrank_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/lowrank
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/CHANGELOG.md
  DESTINATION ${CMAKE_INSTALL_DOCDIR})
