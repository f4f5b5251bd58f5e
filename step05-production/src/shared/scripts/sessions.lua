-- Adds a session to those of an account, and takes the oldest ones off if there are too many.
-- KEYS: the list. ARGV: the session, the time, how many, after how many ms each has ended.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2] - ARGV[4])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local surplus = redis.call('ZRANGE', KEYS[1], 0, -1 - tonumber(ARGV[3]))
for _, session in ipairs(surplus) do
  redis.call('ZREM', KEYS[1], session)
end
return surplus
