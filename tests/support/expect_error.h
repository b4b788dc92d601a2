#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

/// Fails unless `statement` throws exactly `type` with a message that contains `text`.
#define LOWRANK_EXPECT_ERROR(statement, type, text)              \
  EXPECT_THROW(                                                  \
      {                                                          \
        try {                                                    \
          statement;                                             \
        } catch (const type& error) {                            \
          EXPECT_THAT(error.what(), ::testing::HasSubstr(text)); \
          throw;                                                 \
        }                                                        \
      },                                                         \
      type)
