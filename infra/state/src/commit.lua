-- Writes changes and a new position, or nothing: a script runs whole, and nothing runs beside it.
--
-- KEYS[1]    the shard's claim: a hash of epoch and position
-- KEYS[2..]  the tables that are written, each a hash
-- ARGV[1-2]  expected epoch and position ('' where nothing was read yet)
-- ARGV[3]    next position
-- ARGV[4..]  of each change: index of its table in KEYS, key, '1' to write or '0' to remove, value
-- Returns nothing where it was done, else what the claim holds.
local found = redis.call('HMGET', KEYS[1], 'epoch', 'position')
for i = 1, 2 do
  if (found[i] or '') ~= ARGV[i] then
    return { found[1] or '', found[2] or '' }
  end
end
redis.call('HSET', KEYS[1], 'position', ARGV[3])
for i = 4, #ARGV, 4 do
  local table = KEYS[tonumber(ARGV[i])]
  if ARGV[i + 2] == '1' then
    redis.call('HSET', table, ARGV[i + 1], ARGV[i + 3])
  else
    redis.call('HDEL', table, ARGV[i + 1])
  end
end
return {}
