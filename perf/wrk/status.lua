-- GET /v0/status: a request that touches no data. One fixed request, without any Lua per request.
wrk.path = "/v0/status"
