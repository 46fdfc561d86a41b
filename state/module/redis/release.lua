-- Empties the selected database, the scratch database, if it is a connection's or has lost the marker that says whose it is.
-- KEYS: the marker. ARGV: the connection's name.
local holder = redis.call('GET', KEYS[1])
if not holder or holder == ARGV[1] then
  redis.call('FLUSHDB', 'ASYNC')
end
return redis.status_reply('OK')
