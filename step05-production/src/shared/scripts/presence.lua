-- Notes which users of one server have come into a room, and who has left it. Whoever is there on no
-- server before, or on none after that, is told to everybody.
-- KEYS: nodes, names, counts, number; all with the room's tag. ARGV: the channel, how the key of a
-- server's own list begins, the server, for how many ms it counts as alive, the version of the list that
-- it has noted last, the next version, 1 to replace the list; then for each change: + or -, the user's key,
-- their name.
local nodes, names, counts, number = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local channel, lists, node, alive = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local version, next_version, replace = ARGV[5], ARGV[6], ARGV[7] == '1'
-- A list has its version in a field that no user has.
local VERSION = ''

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function tell(what, name)
  local n = redis.call('INCR', number)
  redis.call('PUBLISH', channel, what .. ' ' .. n .. ' ' .. name)
end

local function enter(key, name)
  if redis.call('HINCRBY', counts, key, 1) == 1 then
    redis.call('HSET', names, key, name)
    tell('entered', name)
  end
end

local function leave(key)
  if redis.call('HINCRBY', counts, key, -1) <= 0 then
    local name = redis.call('HGET', names, key)
    redis.call('HDEL', counts, key)
    redis.call('HDEL', names, key)
    if name then
      tell('left', name)
    end
  end
end

local function forget(list)
  for _, key in ipairs(redis.call('HKEYS', list)) do
    if key ~= VERSION then
      leave(key)
    end
  end
  redis.call('DEL', list)
end

-- Servers that have not been heard of for so long are dead, and so are their connections.
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', now)) do
  if dead ~= node then
    forget(lists .. dead)
    redis.call('ZREM', nodes, dead)
  end
end

local mine = lists .. node
local changes = {}
if replace then
  local wanted = {}
  for i = 8, #ARGV, 3 do
    wanted[ARGV[i + 1]] = ARGV[i] == '+'
  end
  for _, key in ipairs(redis.call('HKEYS', mine)) do
    if key ~= VERSION and not wanted[key] then
      redis.call('HDEL', mine, key)
      leave(key)
    end
  end
elseif (redis.call('HGET', mine, VERSION) or '0') ~= version then
  -- Redis has lost the list, or has an older one.
  return { -1, 0 }
end
for i = 8, #ARGV, 3 do
  local sign, key, name = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if sign == '+' and redis.call('HSETNX', mine, key, name) == 1 then
    enter(key, name)
  elseif sign == '-' and redis.call('HDEL', mine, key) == 1 then
    leave(key)
  elseif sign == '-' and redis.call('HEXISTS', names, key) == 0 then
    -- They were gone before Redis heard that they had come. Their own server has told its members.
    tell('left', name)
  end
end

redis.call('HSET', mine, VERSION, next_version)
redis.call('ZADD', nodes, now + alive, node)
-- After a server's end its list has to be there until somebody else reads who was on it.
for _, key in ipairs({ nodes, names, counts, number, mine }) do
  redis.call('PEXPIRE', key, 4 * alive)
end
return { redis.call('HLEN', names), tonumber(redis.call('GET', number) or 0) }
