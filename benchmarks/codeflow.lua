-- Whole code flows: authorize with a session's cookie, then the code for tokens; one connection to a thread, so that
-- a thread's answers come in the order of its requests. The lines above this one define cookies, authorize, form, basic.
local threads = {}
flows, wrong = 0, 0
local code

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function request()
  if code then
    local body = form .. "&code=" .. code
    code = nil
    local headers = { ["Content-Type"] = "application/x-www-form-urlencoded", ["Authorization"] = basic }
    return wrk.format("POST", "/oauth/token", headers, body)
  end
  return wrk.format("GET", authorize, { ["Cookie"] = cookies[number % #cookies + 1] })
end

function response(status, headers, body)
  if status == 303 then
    code = (headers["location"] or headers["Location"] or ""):match("[?&]code=([^&]+)")
  end
  if status == 200 then
    flows = flows + 1
  elseif code == nil then
    wrong = wrong + 1
  end
end

function done(summary, latency, requests)
  local all, bad = 0, 0
  for _, thread in ipairs(threads) do
    all, bad = all + thread:get("flows"), bad + thread:get("wrong")
  end
  io.write(string.format("R %d %f %f %d\n", all, latency:percentile(99) / 1000, latency.max / 1000, bad))
end
