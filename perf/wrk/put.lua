-- PUT of KEYS keys with values of VALUE_BYTES, each key once per round. Options: common.lua.
local common = dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "common.lua")

function init(args)
  local keys = common.number(args, 1, "KEYS", 100000)
  local value = common.value(common.number(args, 2, "VALUE_BYTES", 100))
  request = common.requests(keys, function(index)
    return wrk.format("PUT", common.entity(index), nil, value)
  end)
end
