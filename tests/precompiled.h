#pragma once

// As src/precompiled.h, with what nearly every test needs beside it: gmock takes 2.5 s to read.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
