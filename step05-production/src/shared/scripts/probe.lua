-- Writes something, to see whether that works.
-- KEYS: one that nobody reads. ARGV: the server.
return redis.call('SET', KEYS[1], ARGV[1], 'EX', 60)
