-- Reads how far a room has come, and its last messages, newest first.
-- ARGV, after those of position: how many.
local epoch, top = position()
return { epoch, top, redis.call('XREVRANGE', log, '+', '-', 'COUNT', ARGV[5]) }
