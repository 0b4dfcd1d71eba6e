#include "resp/reply_parser.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/assert.hpp"
#include "resp/number_text.hpp"

namespace gyre::resp {

namespace {

// What a line that begins a value says.
struct Head {
  enum class Form : uint8_t { line, bulk, aggregate, invalid };
  Form form = Form::invalid;
  ReplyType type = ReplyType::null;
  uint64_t count = 0;  // bytes that follow, or elements
  bool attribute = false;
};

Head line_of(ReplyType type, bool valid) {
  return {valid ? Head::Form::line : Head::Form::invalid, type};
}

bool is_double(std::string_view text) {
  if (text == "inf" || text == "-inf" || text == "nan" || text == "-nan") return true;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && !text.empty();
}

Head counted(Head::Form form, ReplyType type, std::string_view text, uint64_t factor = 1) {
  const auto count = parse_integer(text);
  if (count == -1 && (type == ReplyType::bulk || type == ReplyType::array)) {
    return line_of(ReplyType::null, true);
  }
  if (!count || *count < 0 || static_cast<uint64_t>(*count) > UINT32_MAX) return {};
  return {form, type, static_cast<uint64_t>(*count) * factor};
}

// `text` is the line behind `first`; of a long line its beginning does.
Head head_of(char first, std::string_view text) {
  using Form = Head::Form;
  switch (first) {
    case '+':
      return line_of(ReplyType::simple, true);
    case '-':
      return line_of(ReplyType::error, true);
    case ':':
      return line_of(ReplyType::integer, parse_integer(text).has_value());
    case '_':
      return line_of(ReplyType::null, text.empty());
    case ',':
      return line_of(ReplyType::number, is_double(text));
    case '#':
      return line_of(ReplyType::boolean, text == "t" || text == "f");
    case '(':
      return line_of(ReplyType::big_number, !text.empty());
    case '$':
      return counted(Form::bulk, ReplyType::bulk, text);
    case '!':
      return counted(Form::bulk, ReplyType::error, text);
    case '=': {
      Head head = counted(Form::bulk, ReplyType::verbatim, text);
      if (head.count < 4) head.form = Form::invalid;
      return head;
    }
    case '*':
      return counted(Form::aggregate, ReplyType::array, text);
    case '~':
      return counted(Form::aggregate, ReplyType::set, text);
    case '>':
      return counted(Form::aggregate, ReplyType::push, text);
    case '%':
      return counted(Form::aggregate, ReplyType::map, text, 2);
    case '|': {
      Head head = counted(Form::aggregate, ReplyType::map, text, 2);
      head.attribute = true;
      return head;
    }
    default:
      return {};
  }
}

constexpr std::string_view type_bytes = "+-:_,#($!=*~>%|";

bool may_be_long(char first) {
  return first == '+' || first == '-' || first == '(';
}

}  // namespace

// --- finding the end ----------------------------------------------------------------------------

bool ReplyScanner::fail(const char* error) {
  error_ = error;
  state_ = State::failed;
  return false;
}

// False: the stream is broken. An aggregate without elements has ended.
bool ReplyScanner::open(uint64_t elements, bool attribute) {
  elements_ += elements;
  if (elements_ > limits_.elements_max) return fail("too many elements in a reply");
  state_ = State::start;
  if (elements == 0) return attribute || end_value();
  if (depth_ == reply_depth_max) return fail("a reply is nested too deep");
  levels_[depth_++] = {elements, attribute};
  return true;
}

bool ReplyScanner::end_value() {
  state_ = State::start;
  while (depth_ != 0) {
    Level& level = levels_[depth_ - 1];
    if (--level.missing != 0) return true;
    --depth_;
    if (level.attribute) return true;  // what it belongs to follows
  }
  state_ = State::done;
  return true;
}

bool ReplyScanner::end_line() {
  const bool is_long = line_bytes_ > sizeof head_;
  if (is_long && !may_be_long(first_)) return fail("a reply makes no sense");
  const Head head = head_of(first_, {head_, std::min(line_bytes_, sizeof head_)});
  if (head.form == Head::Form::invalid) return fail("a reply makes no sense");
  if (depth_ == 0 && !head.attribute) {
    type_ = head.type;
  } else if (head.type == ReplyType::push) {
    return fail("a push within a reply");
  }
  switch (head.form) {
    case Head::Form::line:
      return end_value();
    case Head::Form::bulk:
      if (head.count > limits_.reply_bytes_max) return fail("a reply is too long");
      bulk_missing_ = head.count + 2;
      state_ = State::bulk;
      return true;
    default:
      return open(head.count, head.attribute);
  }
}

ReplyScanner::Step ReplyScanner::feed(std::string_view bytes) {
  size_t at = 0;
  if (state_ == State::done) {
    state_ = State::start;
    type_ = ReplyType::null;
    reply_bytes_ = 0;
    elements_ = 0;
  }
  while (state_ != State::failed) {
    if (state_ == State::done) return {Event::reply, at};
    if (at == bytes.size()) return {Event::need_more, at};
    const size_t before = at;
    switch (state_) {
      case State::start:
        first_ = bytes[at++];
        if (type_bytes.find(first_) == std::string_view::npos) {
          fail("a reply makes no sense");
          break;
        }
        line_bytes_ = 0;
        has_cr_ = false;
        state_ = State::line;
        break;
      case State::line: {
        if (has_cr_) {
          if (bytes[at++] != '\n') {
            fail("a line of a reply doesn't end with CR LF");
          } else {
            end_line();
          }
          break;
        }
        const char* from = bytes.data() + at;
        const auto* cr = static_cast<const char*>(std::memchr(from, '\r', bytes.size() - at));
        const size_t taken = cr == nullptr ? bytes.size() - at : static_cast<size_t>(cr - from);
        if (line_bytes_ < sizeof head_) {
          std::memcpy(head_ + line_bytes_, from, std::min(taken, sizeof head_ - line_bytes_));
        }
        line_bytes_ += taken;
        at += taken;
        if (line_bytes_ > limits_.line_bytes_max) {
          fail("a line of a reply is too long");
        } else if (cr != nullptr) {
          has_cr_ = true;
          ++at;
        }
        break;
      }
      case State::bulk: {
        const uint64_t payload = bulk_missing_ > 2 ? bulk_missing_ - 2 : 0;
        if (payload != 0) {
          const size_t taken = static_cast<size_t>(std::min<uint64_t>(payload, bytes.size() - at));
          at += taken;
          bulk_missing_ -= taken;
          break;
        }
        if (bytes[at++] != (bulk_missing_ == 2 ? '\r' : '\n')) {
          fail("a bulk string of a reply doesn't end with CR LF");
        } else if (--bulk_missing_ == 0) {
          end_value();
        }
        break;
      }
      case State::done:
      case State::failed:
        break;
    }
    reply_bytes_ += at - before;
    if (reply_bytes_ > limits_.reply_bytes_max && state_ != State::failed) {
      fail("a reply is too long");
    }
  }
  return {Event::error, 0};
}

// --- the tree -----------------------------------------------------------------------------------

bool ReplyTree::parse(std::string_view bytes) {
  nodes_.clear();
  struct Level {
    uint64_t missing;
    uint32_t node;  // none for attributes and what is within them
    bool attribute;
  };
  Level levels[reply_depth_max];
  constexpr uint32_t no_node = UINT32_MAX;
  size_t depth = 0;
  size_t attributes = 0;  // open ones
  const auto invalid = [&] {
    nodes_.clear();
    return false;
  };
  for (size_t at = 0; at < bytes.size();) {
    const size_t end = bytes.find("\r\n", at);
    if (end == std::string_view::npos || end == at) return invalid();
    std::string_view text = bytes.substr(at + 1, end - at - 1);
    const Head head = head_of(bytes[at], text);
    at = end + 2;
    if (head.form == Head::Form::invalid) return invalid();
    if (head.form == Head::Form::bulk) {
      if (bytes.size() - at < head.count + 2) return invalid();
      text = bytes.substr(at, head.count);
      at += head.count;
      if (bytes.substr(at, 2) != "\r\n") return invalid();
      at += 2;
      if (head.type == ReplyType::verbatim) text.remove_prefix(4);
    }
    const bool aggregate = head.form == Head::Form::aggregate;
    if (attributes == 0 && !head.attribute) {
      const auto size = static_cast<uint32_t>(aggregate ? head.count : 0);
      if (aggregate && head.count > bytes.size()) return invalid();  // can't all be there
      nodes_.push_back({head.type, size, static_cast<uint32_t>(nodes_.size() + 1),
                        aggregate || head.type == ReplyType::null ? std::string_view() : text});
    }
    if (aggregate && head.count != 0) {
      if (depth == reply_depth_max) return invalid();
      const bool recorded = attributes == 0 && !head.attribute;
      levels[depth++] = {head.count, recorded ? static_cast<uint32_t>(nodes_.size() - 1) : no_node,
                         head.attribute};
      attributes += head.attribute;
      continue;
    }
    if (head.attribute) continue;  // an empty one
    // The value has ended, and what ends with it.
    bool whole = depth == 0;
    while (depth != 0) {
      Level& level = levels[depth - 1];
      if (--level.missing != 0) break;
      --depth;
      if (level.node != no_node) nodes_[level.node].end = static_cast<uint32_t>(nodes_.size());
      if (level.attribute) {
        --attributes;
        break;  // what it belongs to follows
      }
      whole = depth == 0;
    }
    if (whole) return at == bytes.size() || invalid();
  }
  return invalid();
}

ReplyType Reply::type() const {
  return tree_->nodes_[at_].type;
}

bool Reply::is_aggregate() const {
  const ReplyType of = type();
  return of == ReplyType::array || of == ReplyType::map || of == ReplyType::set ||
         of == ReplyType::push;
}

std::string_view Reply::text() const {
  return tree_->nodes_[at_].text;
}

std::optional<int64_t> Reply::integer() const {
  if (type() == ReplyType::boolean) return text() == "t" ? 1 : 0;
  return parse_integer(text());
}

std::optional<double> Reply::number() const {
  const std::string_view digits = text();
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size()) return {};
  return value;
}

size_t Reply::size() const {
  return tree_->nodes_[at_].size;
}

Reply Reply::operator[](size_t index) const {
  GYRE_ASSERT(index < size());
  Iterator at = begin();
  for (; index != 0; --index) ++at;
  return *at;
}

std::optional<Reply> Reply::find(std::string_view key) const {
  Iterator at = begin();
  for (size_t pair = 0; pair < size() / 2; ++pair) {
    const bool found = (*at).text() == key;
    ++at;
    if (found) return *at;
    ++at;
  }
  return {};
}

Reply::Iterator Reply::begin() const {
  return {*tree_, at_ + 1};
}
Reply::Iterator Reply::end() const {
  return {*tree_, tree_->nodes_[at_].end};
}
Reply Reply::Iterator::operator*() const {
  return {*tree_, at_};
}
Reply::Iterator& Reply::Iterator::operator++() {
  at_ = tree_->nodes_[at_].end;
  return *this;
}

}  // namespace gyre::resp
