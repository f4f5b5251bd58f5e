-- Tells a user something on all servers, and keeps it for those that do not hear it.
-- KEYS: the inbox, the user's clock. ARGV: the channel, the server, what to tell, how many to keep, for
-- how many seconds.
local time = redis.call('TIME')
-- Not before the connections that are there.
local now = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[2]) or 0))
redis.call('ZADD', KEYS[1], string.format('%d', now), ARGV[3])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[4]))
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('PUBLISH', ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
return 0
