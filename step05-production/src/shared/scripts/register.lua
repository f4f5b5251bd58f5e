-- Makes an account, unless its name or what it looks like is taken. Accounts stay for ever.
-- KEYS: the account, its looks. ARGV: the key of the name, the name, the hash of the password, the time.
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    return 0
  end
end
redis.call('HSET', KEYS[1], 'name', ARGV[2], 'password', ARGV[3], 'created', ARGV[4])
redis.call('SET', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], ARGV[1])
return 1
