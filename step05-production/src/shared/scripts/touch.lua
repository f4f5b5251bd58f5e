-- Notes that a session is in use, and that it is to be kept. Tells whether there is one.
-- KEYS: the session. ARGV: the time, after how many ms a session ends, and after how many if nobody uses it.
local now, max, idle = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local session = redis.call('HMGET', KEYS[1], 'created', 'used')
if not session[1] then
  return 0
end
-- Not each time: it is asked more often than it has to be noted.
if now - tonumber(session[2]) >= idle / 20 then
  redis.call('HSET', KEYS[1], 'used', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], math.max(1, math.min(idle, session[1] + max - now)))
end
return 1
