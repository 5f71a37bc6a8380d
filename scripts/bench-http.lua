-- The requests that wrk sends for scripts/bench-http. Environment: DO is enqueue, read or page; TOKEN and COOKIE log
-- in; RUN is part of the photo keys; PAGE is the path; PAUSE is in milliseconds. Answers above 399 count as failed.
local what, token, cookie = os.getenv("DO"), os.getenv("TOKEN"), os.getenv("COOKIE")
local pause, call = tonumber(os.getenv("PAUSE") or "0"), 0
local event = os.getenv("EVENT") or "1"
local reads = { "/v1/events/" .. event, "/v1/organisations/" .. event .. "/credits", "/v1/events/" .. event .. "/why" }
if event == "1" then reads[4] = "/v1/runs/1000001" end

function request()
    call = call + 1
    if what == "enqueue" then
        local keys = {}
        for n = 1, 1000 do keys[n] = string.format('"rehearsal/ok/%s/%d/%d"', os.getenv("RUN"), call, n) end
        local body = '{"operation":"photo_processing","keys":[' .. table.concat(keys, ",") .. "]}"
        return wrk.format("POST", "/v1/events/1/runs",
            { ["Authorization"] = "Bearer " .. token, ["Content-Type"] = "application/json" }, body)
    elseif what == "read" then
        return wrk.format("GET", reads[call % #reads + 1], { ["Authorization"] = "Bearer " .. token })
    end
    return wrk.format("GET", os.getenv("PAGE"), { ["Cookie"] = cookie, ["Authorization"] = "Bearer " .. token })
end

-- The time between an answer and the next request of a connection, in milliseconds.
function delay()
    return pause
end

function done(summary, latency)
    local broken = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
    print(string.format("%-28s p50 %7.1f ms   p99 %7.1f ms   %6.1f a second   %d asked, %d failed", os.getenv("NAME"),
        latency:percentile(50) / 1000, latency:percentile(99) / 1000,
        summary.requests * 1e6 / summary.duration, summary.requests, broken))
end
