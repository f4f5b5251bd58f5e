-- Tells a server the time, in µs: when it hears it, it has heard everything that was told before.
-- ARGV: the server's channel.
local time = redis.call('TIME')
redis.call('PUBLISH', ARGV[1], string.format('%d', time[1] * 1000000 + time[2]))
return 0
