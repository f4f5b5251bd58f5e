-- Compares what a server has of a room with what is stored. Where they differ, an older state of Redis
-- has come back, and the count is another one from here on.
-- KEYS, after those of position: the number of changes of the crowd. ARGV, after those of position: the
-- epoch, the number, and the id of the last message that the server has; no id if it does not know.
local held_epoch, held, id = ARGV[5], tonumber(ARGV[6]), ARGV[7]
local epoch, top = position()
if epoch == held_epoch then
  local is_lost = top < held
  if not is_lost and id ~= '' then
    local entry = redis.call('XRANGE', log, held .. '-0', held .. '-0')[1]
    is_lost = entry and not entry[2][4]:find(id, 1, true)
  end
  if is_lost then
    epoch = begin_epoch()
  end
end
return { epoch, top, tonumber(redis.call('GET', KEYS[3]) or 0) }
