#include "app/pages/markup.h"

#include <gtest/gtest.h>

#include <string>

namespace lowrank::app {
namespace {

TEST(Escaped, LeavesNothingThatMeansSomethingInHtml) {
  EXPECT_EQ(escaped("</style><script>alert('x')</script> & \"y\""),
            "&lt;/style&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;y&quot;");
  EXPECT_EQ(escaped("`date` $(date) äöü ΔW"), "`date` $(date) äöü ΔW");
}

TEST(Escaped, ShowsWhatABrowserWouldObey) {
  EXPECT_EQ(escaped("a\u202Eb\nc"), "a\\u202eb\\nc");
  EXPECT_EQ(escaped(std::string("a\0b\xff", 4)), "a\\x00b\\xff");
}

}  // namespace
}  // namespace lowrank::app
