-- Counts failed tries to sign in to an account, and tells after how many ms the next try is allowed.
-- KEYS: the bucket. ARGV: how many at once, the time in ms after which one counts no more, 1 to count one.
-- The bucket is one number: the time at which it will be full again (GCRA).
local burst, period, failed = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
if failed then
  -- Never emptier than empty: whoever waits for one period may try once.
  full = math.min(full + period, now + burst * period)
  redis.call('SET', KEYS[1], string.format('%d', full), 'PX', full - now + 1000)
end
return math.max(0, full + period - now - burst * period)
