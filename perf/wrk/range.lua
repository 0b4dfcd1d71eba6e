-- Scans of RECORDS records, starting at scattered keys of the KEYS that put.lua stores.
-- Options: common.lua; RECORDS is the second.
local common = dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "common.lua")

function init(args)
  local keys = common.number(args, 1, "KEYS", 100000)
  local records = common.number(args, 2, "RECORDS", 10000)
  request = common.requests(math.max(1, keys - records + 1), function(index)
    return wrk.format("GET", "/v0/entities?start=" .. common.key(index) .. "&end="
      .. common.key(index + records))
  end)
end
