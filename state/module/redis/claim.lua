-- Makes the selected database, the scratch database, that of a connection.
-- KEYS: the marker. ARGV: the connection's name, and whose keys may be deleted for it.
-- Returns whose the database is afterwards.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] then
  return holder
end
if holder then
  redis.call('FLUSHDB', 'ASYNC')
elseif redis.call('DBSIZE') > 0 then
  return redis.error_reply('SCRATCHINUSE')
end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
