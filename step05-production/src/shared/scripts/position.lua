-- How far a room has come: its epoch, the last number that was given, and the id of that message. Other
-- scripts begin with this.
-- KEYS: meta, log. ARGV: the run of Redis, 1 if it is durable, an unused UUID, how many seconds to keep.
local meta, log = KEYS[1], KEYS[2]
local run, durable, unused, keep = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

-- An empty room is forgotten within an hour. A count has to outlive its messages, or the next one
-- would have the same numbers.
local function remember(top)
  local seconds = top > 0 and 2 * keep or 3600
  if redis.call('TTL', meta) < seconds / 2 then
    redis.call('EXPIRE', meta, seconds)
  end
end

local function begin_epoch()
  redis.call('HSET', meta, 'epoch', unused, 'run', run)
  return unused
end

local function position()
  local found = redis.call('HMGET', meta, 'epoch', 'top', 'run', 'last')
  local epoch, top = found[1], tonumber(found[2] or 0)
  if not epoch then
    redis.call('DEL', log)
    epoch = begin_epoch()
  elseif epoch == '' then
    -- Somebody has taken the name of the count away by hand.
    epoch = begin_epoch()
  elseif found[3] ~= run then
    -- Redis has restarted. Unless each write had been on the disk, the last ones may be gone, and
    -- clients may have seen them: their numbers must not be given again in the same count.
    if durable == '1' then
      redis.call('HSET', meta, 'run', run)
    else
      epoch = begin_epoch()
    end
  end
  remember(top)
  return epoch, top, found[4] or ''
end
