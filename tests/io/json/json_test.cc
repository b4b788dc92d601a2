#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

std::string nested(int levels) {
  return std::string(static_cast<size_t>(levels), '[') +
         std::string(static_cast<size_t>(levels), ']');
}

TEST(Json, ParsesWhatIsRight) {
  const auto value = parse_json(R"({"a":[1,-2.5,true,null,"ü\n"],"b":{"a":{"a":1}}})", "it");
  EXPECT_EQ(value["a"][1].get<double>(), -2.5);
  EXPECT_EQ(value["b"]["a"]["a"].get<int>(), 1);
  EXPECT_NO_THROW(parse_json(nested(64), "it"));
  // The same key in two objects is not a duplicate.
  EXPECT_NO_THROW(parse_json(R"([{"a":1},{"a":2}])", "it"));
}

TEST(Json, RefusesWrongSyntaxWithItsByte) {
  LOWRANK_EXPECT_ERROR(parse_json("{\"a\":}", "\"f.json\""), FileError,
                       "[json] \"f.json\" must be valid JSON. Got wrong syntax at byte 6: "
                       "unexpected '}'; expected");
  LOWRANK_EXPECT_ERROR(parse_json("", "it"), FileError,
                       "Got wrong syntax at byte 1: unexpected end of input");
  LOWRANK_EXPECT_ERROR(parse_json("{} x", "it"), FileError, "Got wrong syntax at byte 4");
  LOWRANK_EXPECT_ERROR(parse_json("\"\xff\"", "it"), FileError, "ill-formed UTF-8 byte");
  LOWRANK_EXPECT_ERROR(parse_json(std::string_view("{}\0 and more", 11), "it"), FileError,
                       "Got wrong syntax at byte 3: a zero byte.");
  LOWRANK_EXPECT_ERROR(parse_json("[NaN]", "it"), FileError, "Got wrong syntax at byte 2");
  LOWRANK_EXPECT_ERROR(parse_json("[1e999]", "it"), FileError, "Got a number out of range.");
  LOWRANK_EXPECT_ERROR(parse_json("]", "it", "peft"), FileError, "[peft] it must be valid JSON");
}

TEST(Json, TheMessageHoldsNothingOfTheText) {
  try {
    parse_json("{\"secret\x01\n", "it");
    FAIL();
  } catch (const FileError& error) {
    EXPECT_THAT(error.what(), ::testing::Not(::testing::HasSubstr("secret")));
    EXPECT_THAT(error.what(), ::testing::Not(::testing::HasSubstr("\n")));
  }
}

TEST(Json, RefusesDeepNestingAndDuplicateKeys) {
  LOWRANK_EXPECT_ERROR(parse_json(nested(65), "it"), FileError,
                       "it must nest at most 64 levels deep. Got deeper nesting.");
  LOWRANK_EXPECT_ERROR(parse_json(nested(1'000'000), "it"), FileError, "at most 64 levels deep");
  std::string objects;
  for (int i = 0; i < 65; ++i) objects += "{\"a\":";
  LOWRANK_EXPECT_ERROR(parse_json(objects, "it"), FileError, "at most 64 levels deep");
  LOWRANK_EXPECT_ERROR(parse_json(R"({"b":{"x":1,"x":2}})", "it"), FileError,
                       "[json] the keys of an object in it must differ. Got the key \"x\" twice.");
  LOWRANK_EXPECT_ERROR(parse_json(R"({"a":1,"\u0061":2})", "it"), FileError,
                       "Got the key \"a\" twice.");
}

TEST(Json, RefusesTooLongText) {
  LOWRANK_EXPECT_ERROR(parse_json(std::string(kLongestJson + 1, ' '), "it"), FileError,
                       "it must be at most 100000000 bytes long. Got 100000001 bytes.");
}

TEST(Json, ReadsAFile) {
  const TemporaryFolder folder;
  EXPECT_EQ(read_json_file(folder.write("a b.json", "{\"r\": 8}"))["r"].get<int>(), 8);
  LOWRANK_EXPECT_ERROR(read_json_file(folder.write("bad.json", "{")), FileError,
                       "bad.json\" must be valid JSON. Got wrong syntax at byte 2");
  LOWRANK_EXPECT_ERROR(read_json_file(folder / "none.json"), FileError,
                       "none.json\" must exist. Got \"No such file or directory\".");
}

TEST(Json, ReadsAFileInItsOwnOrder) {
  const TemporaryFolder folder;
  const std::string text = R"({"z":1,"a":{"y":2,"b":3}})";
  EXPECT_EQ(read_ordered_json_file(folder.write("ordered.json", text)).dump(), text);
  LOWRANK_EXPECT_ERROR(read_ordered_json_file(folder.write("twice.json", R"({"a":1,"a":2})")),
                       FileError, "Got the key \"a\" twice.");
  std::string many = "{";
  for (size_t i = 0; i <= kMostOrderedKeys; ++i) many += fmt::format("\"{}\":0,", i);
  LOWRANK_EXPECT_ERROR(read_ordered_json_file(folder.write("many.json", many + "\"x\":0}")),
                       FileError, "must have at most 10000 keys. Got more.");
}

}  // namespace
}  // namespace lowrank
