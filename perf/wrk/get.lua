-- GET of KEYS keys, as put.lua stores them. Options: common.lua.
local common = dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "common.lua")

function init(args)
  local keys = common.number(args, 1, "KEYS", 100000)
  request = common.requests(keys, function(index)
    return wrk.format("GET", common.entity(index))
  end)
end
