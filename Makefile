# The front door. `make help` lists what is behind it.
BUILD := build/release

.PHONY: build
build:
	cmake --preset release
	cmake --build --preset release
