-- Notes that a session of the fallback has ended, and gives 1; 0 if another lease has it.
-- KEYS: the session. ARGV: the lease.
if redis.call('HGET', KEYS[1], 'lease') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
