-- For wrk: a body of so many bytes to post (`-- BYTES`), and the result as one line of JSON. Nothing of it runs for a request.

function init(arguments)
  local size = tonumber(arguments[1] or "0")
  if size > 0 then
    wrk.method = "POST"
    wrk.body = string.rep("x", size)
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "received": %d, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
