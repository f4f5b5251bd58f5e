-- Sees to it that an id of a user names one message, and that no user sends too many: on all servers.
-- KEYS: the id, the user's bucket. ARGV: the room, for how many seconds to know the id, the time for one
-- message in ms, how many at once (0: any number).
local room, known = ARGV[1], tonumber(ARGV[2])
local period, burst = tonumber(ARGV[3]), tonumber(ARGV[4])

local claimed = redis.call('GET', KEYS[1])
if claimed then
  -- Sent again: it was paid for the first time.
  return { claimed == room and 'ok' or 'conflict', 0 }
end

if burst > 0 then
  -- The bucket as one number: the time at which it will be full again (GCRA).
  local time = redis.call('TIME')
  local now = time[1] * 1000 + time[2] / 1000
  local full = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), now) + period
  local wait = full - now - burst * period
  if wait > 0 then
    return { 'wait', math.ceil(wait) }
  end
  redis.call('SET', KEYS[2], string.format('%.3f', full), 'PX', math.ceil(full - now) + 1000)
end
redis.call('SET', KEYS[1], room, 'EX', known)
return { 'ok', 0 }
