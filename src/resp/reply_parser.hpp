// Replies out of a stream of bytes, as a Redis server sends them (RESP2 and RESP3).
//
// ReplyScanner finds where one reply ends, in a stream that comes in pieces: every byte is looked at
// once, and nothing is kept but how much is still to come. ReplyTree reads one whole reply.
//
// Neither recurses: a reply nests reply_depth_max deep at most. Nothing is allocated for what was
// announced and has not come. Streamed strings and aggregates ("$?", "*?"), which no server sends,
// are refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gyre::resp {

// By the byte it begins with. Null is "_", and "$-1" and "*-1" as well.
enum class ReplyType : uint8_t {
  simple,      // +
  error,       // - and ! (a bulk error)
  integer,     // :
  bulk,        // $
  array,       // *
  null,        // _
  number,      // ,
  boolean,     // #
  big_number,  // (
  verbatim,    // =
  map,         // %
  set,         // ~
  push,        // > out of band: no answer to anything
};

inline constexpr size_t reply_depth_max = 32;

struct ReplyLimits {
  uint64_t reply_bytes_max = 1ull << 30;  // of one reply in all
  size_t line_bytes_max = 64u << 10;      // of a simple string, an error, a number
  uint64_t elements_max = 1u << 24;       // of all aggregates of a reply
};

class ReplyScanner {
 public:
  enum class Event : uint8_t {
    need_more,  // all bytes were taken
    reply,      // ended with the last byte taken; type() tells what it is
    error,      // the stream makes no sense; final
  };
  struct Step {
    Event event = Event::need_more;
    size_t consumed = 0;
  };

  explicit ReplyScanner(const ReplyLimits& limits = {}) : limits_(limits) {}

  // Drop `consumed` bytes, act, and call again with the rest. Attributes belong to the reply that
  // follows them.
  Step feed(std::string_view bytes);

  // Of the reply itself, not of an attribute before it.
  ReplyType type() const { return type_; }
  // Bytes of the reply that has ended or is under way.
  uint64_t reply_bytes() const { return reply_bytes_; }
  // And what is still to come of the string that it stands in.
  uint64_t announced_bytes() const { return reply_bytes_ + bulk_missing_; }
  // No byte of a reply has arrived since the last one ended.
  bool idle() const {
    return state_ == State::done || (state_ == State::start && depth_ == 0 && reply_bytes_ == 0);
  }
  std::string_view error() const { return error_; }

 private:
  enum class State : uint8_t { start, line, bulk, done, failed };

  bool end_line();
  bool end_value();
  bool open(uint64_t elements, bool attribute);
  bool fail(const char* error);

  ReplyLimits limits_;
  State state_ = State::start;
  ReplyType type_ = ReplyType::null;
  char first_ = 0;  // the type byte of the value under way
  char head_[32];   // the line of it; what is longer is only counted
  size_t line_bytes_ = 0;
  bool has_cr_ = false;
  bool top_known_ = false;
  bool final_ = false;
  uint64_t bulk_missing_ = 0;  // with its CR LF
  uint64_t reply_bytes_ = 0;
  uint64_t elements_ = 0;
  size_t depth_ = 0;
  struct Level {
    uint64_t missing;  // elements that have not ended
    bool attribute;    // a value follows it
  };
  Level levels_[reply_depth_max + 1];
  const char* error_ = "";
};

class ReplyTree;

// A value of a ReplyTree, which must live as long. Cheap to copy.
class Reply {
 public:
  ReplyType type() const;
  bool is_null() const { return type() == ReplyType::null; }
  bool is_error() const { return type() == ReplyType::error; }
  bool is_aggregate() const;
  // The bytes of a string, error, number or verbatim text (without its format); a view of what was
  // parsed.
  std::string_view text() const;
  // Of an integer, a boolean, or a text that is a whole number.
  std::optional<int64_t> integer() const;
  // Of a number, or a text that is one.
  std::optional<double> number() const;

  // Elements; of a map keys and values, in turns.
  size_t size() const;
  // In the order of indexes this costs little; at random, the elements before it.
  Reply operator[](size_t index) const;
  // The value of a map (or of an array of keys and values) under a key that is a text.
  std::optional<Reply> find(std::string_view key) const;

  class Iterator {
   public:
    Reply operator*() const;
    Iterator& operator++();
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    friend class Reply;
    Iterator(const ReplyTree& tree, uint32_t at) : tree_(&tree), at_(at) {}
    const ReplyTree* tree_;
    uint32_t at_;
  };
  Iterator begin() const;
  Iterator end() const;

 private:
  friend class ReplyTree;
  Reply(const ReplyTree& tree, uint32_t at) : tree_(&tree), at_(at) {}
  const ReplyTree* tree_;
  uint32_t at_;
};

class ReplyTree {
 public:
  // Reads exactly one whole reply (one that ReplyScanner has found the end of); its texts are views
  // of `bytes`. Attributes are left out. False: `bytes` are something else, and there is no root.
  // May be called again; memory is kept.
  bool parse(std::string_view bytes);
  Reply root() const { return Reply(*this, 0); }

 private:
  friend class Reply;
  friend class Reply::Iterator;
  struct Node {
    ReplyType type;
    uint32_t size;  // elements
    uint32_t end;   // the node behind all that is within it
    std::string_view text;
  };
  std::vector<Node> nodes_;  // in the order of the bytes
};

}  // namespace gyre::resp
