-- Keys, values and prepared requests, shared by the scripts of this folder. All of them run under
-- wrk and wrk2:
--
--   wrk  -t1 -c64 -d10      -s perf/wrk/put.lua http://127.0.0.1:8080 -- KEYS VALUE_BYTES
--   wrk2 -t1 -c64 -d10 -R10000 -L -s perf/wrk/get.lua http://127.0.0.1:8080 -- KEYS
--
-- Options come after "--", or else from the environment: KEYS (100000), VALUE_BYTES (100),
-- RECORDS (10000, range.lua), PUT_PERCENT (50, mixed.lua).
--
-- Requests are prepared before the clock runs: building one in Lua costs the client as much as a
-- good server needs to answer it.

local common = {}

local prepared_bytes_max = 128 * 1024 * 1024

-- Reads the option at this position after "--", or from the environment.
function common.number(args, position, name, default)
  local value = tonumber(args[position] or os.getenv(name) or default)
  if not value or value < 1 or value ~= math.floor(value) then
    error(name .. " must be a whole number of at least 1")
  end
  return value
end

function common.key(index)
  return string.format("key%010d", index)
end

function common.entity(index)
  return "/v0/entity?id=" .. common.key(index)
end

-- Text that compresses about as well as text does, the same in every run.
function common.value(bytes)
  local state, parts = 42, {}
  for i = 1, bytes do
    state = (state * 1103515245 + 12345) % 2147483648
    parts[i] = string.char(97 + math.floor(state / 65536) % 26)
  end
  return table.concat(parts)
end

local function gcd(a, b)
  while b ~= 0 do a, b = b, a % b end
  return a
end

-- Visits 0 … count-1 in a scattered order, each once per round. Threads start apart.
function common.walk(count)
  local stride = math.max(1, math.floor(count * 0.6180339887))
  while gcd(stride, count) ~= 1 do stride = stride + 1 end
  local at = math.floor(count * (thread_number or 0) * 0.37) % count
  return function()
    at = (at + stride) % count
    return at
  end
end

-- The next request each time it is called; make(index) gives the request of a key. Prepared for
-- all keys where that fits into memory.
function common.requests(count, make)
  local next_index = common.walk(count)
  local prepared = {}
  if #make(0) * count > prepared_bytes_max then
    return function() return make(next_index()) end
  end
  for index = 0, count - 1 do prepared[index] = make(index) end
  return function() return prepared[next_index()] end
end

-- wrk calls setup once per thread, in the main state; the number reaches the thread as a global.
local threads = 0
function setup(thread)
  thread:set("thread_number", threads)
  threads = threads + 1
end

return common
