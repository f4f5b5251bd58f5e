-- Reads who is in a room, and how often that has changed.
-- KEYS: names, number.
return { tonumber(redis.call('GET', KEYS[2]) or 0), redis.call('HVALS', KEYS[1]) }
