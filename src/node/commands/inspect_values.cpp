// Value files under `gyre inspect`. They know no keys: the tables that name them say more.
#include <fmt/format.h>

#include <gyre/time.hpp>

#include "base/coding.hpp"
#include "node/commands/client_commands.hpp"
#include "node/commands/inspect.hpp"
#include "node/progress.hpp"
#include "store/value_verifier.hpp"

namespace gyre {

namespace {

class ValueInspection final : public TableVerifier::Observer {
 public:
  explicit ValueInspection(InspectedFile& in) : in_(in) {}
  void damaged(uint64_t offset, std::string_view what) override { in_.damaged(offset, what); }

 private:
  InspectedFile& in_;
};

}  // namespace

bool has_value_footer(std::string_view tail) {
  return tail.ends_with("GyreValu");
}

Task<Result<void>> inspect_values(InspectedFile& in, std::string tail) {
  in.report->text += fmt::format("value file {}\n", in.path);
  uint64_t number = in.name.number;
  if (has_value_footer(tail) && tail.size() >= value_footer_bytes) {
    number = get_fixed<uint64_t>(tail.data() + tail.size() - value_footer_bytes + 24);
  }
  if (in.name.kind == FileKind::values && in.name.number != number) {
    in.damaged(in.size_bytes - value_footer_bytes,
               fmt::format("the file was written as value file {}, its name says {}", number,
                           in.name.number));
  }
  ValueInspection inspection(in);
  const Result<std::optional<ValueFooter>> footer =
      co_await verify_value_file(in.file, in.size_bytes, number, inspection);
  if (!footer) {
    if (footer.error().code == Errc::unsupported) co_return fail(footer.error());
    co_return fail(footer.error().code, in.path + ": " + footer.error().detail);
  }
  if (!*footer) co_return Result<void>{};
  in.print("number", std::to_string(number));
  in.print("size", fmt::format("{} bytes", format_number(in.size_bytes)));
  in.print("values", fmt::format("{}, {}", format_number((*footer)->value_count),
                                 format_bytes((*footer)->content_bytes)));
  co_return Result<void>{};
}

}  // namespace gyre
