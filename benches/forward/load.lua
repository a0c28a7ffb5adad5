-- What wrk sends, from the environment, and its exact counts as one line of JSON: the text it prints is rounded.
-- There is no `request` and no `response` function here, so wrk sends one prepared request and parses no headers for us.
wrk.method = os.getenv("LOAD_METHOD")
wrk.body = os.getenv("LOAD_BODY")

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\nCOUNTS {"requests":%d,"micros":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
