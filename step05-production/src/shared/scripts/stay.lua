-- Notes that a server still has a session of the fallback, and gives 1; 0 if another lease has it.
-- KEYS and ARGV as in lodge.lua.
local lease = redis.call('HGET', KEYS[1], 'lease')
if lease and lease ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'lease', ARGV[2], 'owner', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
