-- PUT and GET of the same keys, PUT_PERCENT of them PUT, evenly spread. Options: common.lua.
local common = dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "./") .. "common.lua")

function init(args)
  local keys = common.number(args, 1, "KEYS", 100000)
  local value = common.value(common.number(args, 2, "VALUE_BYTES", 100))
  local put_percent = common.number(args, 3, "PUT_PERCENT", 50)
  local put = common.requests(keys, function(index)
    return wrk.format("PUT", common.entity(index), nil, value)
  end)
  local get = common.requests(keys, function(index)
    return wrk.format("GET", common.entity(index))
  end)
  local owed = 0
  function request()
    owed = owed + put_percent
    if owed < 100 then return get() end
    owed = owed - 100
    return put()
  end
end
