-- Counts connections of a user, on all servers.
-- KEYS: the seats, the user's clock. ARGV: how many there may be (0: these are there already), for how
-- many ms they count if nobody says more, the seats. Gives 1 or 0, and the time in µs.
local most, alive = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Each connection has a later time than the one before, even if the clock of this machine is set back.
local arrived = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[2]) or 0) + 1)
redis.call('SET', KEYS[2], string.format('%d', arrived), 'PX', 4 * alive)

-- Whose server has said nothing for so long is gone.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if most > 0 and redis.call('ZCARD', KEYS[1]) >= most then
  return { 0, arrived }
end
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[1], now + alive, ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], alive)
return { 1, arrived }
