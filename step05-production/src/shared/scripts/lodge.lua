-- Notes that a server has a session of the fallback from now on, unless it is somebody else's.
-- KEYS: the session. ARGV: the server, its lease, the session's owner, for how many ms it is noted.
-- Gives 1 or 0, and the server and the lease of before.
local was = redis.call('HMGET', KEYS[1], 'node', 'lease', 'owner')
if was[3] and was[3] ~= ARGV[3] then
  return { 0, '', '' }
end
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'lease', ARGV[2], 'owner', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return { 1, was[1] or '', was[2] or '' }
