#include "oracle.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "../contract/http_client.hpp"
#include "base/hash.hpp"

namespace gyre::chaos {

namespace {

std::string text_of(const Operation& operation) {
  std::string text = operation.removes ? "removed (" : "a value (";
  text += std::to_string(operation.sequence);
  if (!operation.removes) text += ", " + std::to_string(operation.size_bytes) + " bytes";
  return text + ")";
}

// Enough of a value to see whose it is.
std::string start_of(std::string_view value) {
  std::string text;
  for (const char c : value.substr(0, 60)) text += c >= ' ' && c <= '~' ? c : '.';
  return text;
}

size_t first_difference(std::string_view a, std::string_view b) {
  const size_t shorter = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(shorter), b.begin()).first -
      a.begin());
}

}  // namespace

std::string value_of(std::string_view key, const Operation& operation) {
  const uint64_t seed = hash64(key, operation.sequence);
  std::string body;
  if (operation.sequence % 2 == 0) {
    const std::string word = fmt::format("{:016x}, again and again; ", seed);
    while (body.size() < operation.size_bytes) body += word;
    body.resize(operation.size_bytes);
  } else {
    body = test::random_bytes(seed | 1, operation.size_bytes);
  }
  const std::string header = fmt::format("{} {} {:016x}\n", key, operation.sequence, hash64(body));
  std::copy_n(header.begin(), std::min(header.size(), body.size()), body.begin());
  return body;
}

void KeyHistory::sent(const Operation& operation) {
  sequence_next_ = operation.sequence + 1;
  in_doubt_.push_back(operation);
}

void KeyHistory::acknowledged(uint64_t sequence) {
  const auto found = std::find_if(in_doubt_.begin(), in_doubt_.end(),
                                  [&](const Operation& each) { return each.sequence == sequence; });
  if (found == in_doubt_.end()) return;
  settled_ = *found;
  in_doubt_.erase(in_doubt_.begin(), found + 1);
}

void KeyHistory::refused(uint64_t sequence) {
  std::erase_if(in_doubt_, [&](const Operation& each) { return each.sequence == sequence; });
}

const Operation* KeyHistory::explanation(const std::optional<std::string>& found) const {
  const auto explains = [&](const Operation& operation) {
    if (!found) return operation.removes;
    return !operation.removes && operation.size_bytes == found->size() &&
           value_of(key_, operation) == *found;
  };
  for (auto each = in_doubt_.rbegin(); each != in_doubt_.rend(); ++each) {
    if (explains(*each)) return &*each;
  }
  return explains(settled_) ? &settled_ : nullptr;
}

std::string KeyHistory::objection(const std::optional<std::string>& found) const {
  if (explanation(found) != nullptr) return "";
  std::string text = key_ + ": found ";
  if (found) {
    text += std::to_string(found->size()) + " bytes, '" + start_of(*found) + "'";
    for (const Operation& each : in_doubt_) {
      if (each.removes || each.size_bytes != found->size()) continue;
      text += ", unlike " + text_of(each) + " from byte " +
              std::to_string(first_difference(value_of(key_, each), *found));
    }
    if (!settled_.removes) {
      text += ", unlike the acknowledged one from byte " +
              std::to_string(first_difference(value_of(key_, settled_), *found));
    }
  } else {
    text += "nothing";
  }
  text += "; acknowledged: " + text_of(settled_) + "; in doubt:";
  for (const Operation& each : in_doubt_) text += " " + text_of(each);
  return text;
}

std::string KeyHistory::settle(const std::optional<std::string>& found) {
  const Operation* happened = explanation(found);
  if (happened == nullptr) return objection(found);
  settled_ = *happened;
  in_doubt_.clear();
  return "";
}

}  // namespace gyre::chaos
