-- ANCHOR: all
-- Stores a message, and tells everybody who listens: all of it, or nothing.
-- KEYS: meta, log, said. ARGV, after those of position: the channel, the sender's id for the message, the
-- sender's JSON, its hash, how many messages to keep, for how many seconds to know the id, the age in ms
-- at which messages go (0: none).
local said = KEYS[3]
local channel, id, json, hash = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local kept, known, age = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])

local before = redis.call('GET', said)
if before then
  local seq, same = before:match('^(%d+) (.*)$')
  if same == hash then
    return { 'repeated', tonumber(seq) }
  end
  return { 'conflict', 0 }
end

-- ANCHOR: store
local epoch, _, last = position()
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = string.format('%d', now)
local seq = redis.call('HINCRBY', meta, 'top', 1)
redis.call('HSET', meta, 'last', id)

redis.call('XADD', log, 'MAXLEN', '~', kept, seq .. '-0', 'at', at, 'said', json)
-- ANCHOR_END: store
if age > 0 then
  -- A few of those that are too old. More go with the next message, or all with the room.
  for _, entry in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', 16)) do
    if tonumber(entry[2][2]) < now - age then
      redis.call('XDEL', log, entry[1])
    end
  end
end
-- ANCHOR: tell
redis.call('EXPIRE', log, keep)
redis.call('SET', said, seq .. ' ' .. hash, 'EX', known)
redis.call('PUBLISH', channel, table.concat({ 'said', epoch, seq, last, at, json }, ' '))
remember(seq)
return { 'stored', seq }
-- ANCHOR_END: tell
-- ANCHOR_END: all
