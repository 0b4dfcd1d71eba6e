-- DELETE of KEYS keys, whether they are there or not. Options: common.lua.
local common = dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "common.lua")

function init(args)
  local keys = common.number(args, 1, "KEYS", 100000)
  request = common.requests(keys, function(index)
    return wrk.format("DELETE", common.entity(index))
  end)
end
