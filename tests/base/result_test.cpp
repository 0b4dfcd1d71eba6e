#include <doctest/doctest.h>

#include <cerrno>

#include <gyre/result.hpp>
#include <gyre/version.hpp>

using namespace gyre;

TEST_CASE("errors of the system keep their number and get a class that callers branch on") {
  CHECK(Error::from_errno(ENOSPC).code == Errc::no_space);
  CHECK(Error::from_errno(EDQUOT).code == Errc::no_space);
  CHECK(Error::from_errno(ECANCELED).code == Errc::cancelled);
  CHECK(Error::from_errno(ECONNRESET).code == Errc::closed);
  CHECK(Error::from_errno(EIO).code == Errc::io);
  CHECK(Error::from_errno(EIO).os_error == EIO);
}

TEST_CASE("a message says what, where and why") {
  CHECK(Error::from_errno(EIO, "000001.log").message() ==
        "I/O error: 000001.log (Input/output error)");
  CHECK(Error::of(Errc::overloaded).message() == "overloaded");
}

TEST_CASE("versions are unique and never go back, whatever the wall clock does") {
  HybridClock clock(7, 3);
  Version last = clock.next(1'000'000);
  for (const uint64_t wall_us : {1'000'000ull, 999'999ull, 5ull, 2'000'000ull, 1'999'999ull}) {
    const Version next = clock.next(wall_us);
    CHECK(next > last);
    CHECK(next.hlc > last.hlc);
    last = next;
  }
  CHECK(hlc_to_us(last.hlc) == 2'000'000);
}

TEST_CASE("a clock that has seen a later stamp makes later ones") {
  HybridClock clock(1, 0);
  clock.observe(hlc_from_us(5'000'000) + 9);
  CHECK(clock.next(1'000'000).hlc > hlc_from_us(5'000'000) + 9);
}

TEST_CASE("a version says for how many replicas it was made, and is not told by that alone") {
  HybridClock clock(UINT32_MAX, HybridClock::cores_max - 1);
  CHECK(clock.next(5).copies() == 0);
  for (unsigned copies = 1; copies <= 5; ++copies) CHECK(clock.next(5, copies).copies() == copies);
  CHECK(HybridClock(1, 511).next(5, 3) != HybridClock(1, 510).next(5, 3));
}

TEST_CASE("two nodes and two cores never make the same version at the same moment") {
  CHECK(HybridClock(1, 0).next(5) != HybridClock(2, 0).next(5));
  CHECK(HybridClock(1, 0).next(5) != HybridClock(1, 1).next(5));
}
