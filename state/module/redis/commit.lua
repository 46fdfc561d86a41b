-- Puts the keys of the selected database, the scratch database, in their place in another one.
-- KEYS: the marker. ARGV: the connection's name, the other database, the scratch database, how ("database", "prefix" or
-- "key"), a pattern or a key, and how many keys there are at the least.
local name, to, scratch, how, what, least = unpack(ARGV)
if redis.call('GET', KEYS[1]) ~= name then
  return redis.error_reply('LOST the database was taken by another connection')
end
if redis.call('DBSIZE') - 1 < tonumber(least) then
  return redis.error_reply('LOST keys are missing')
end
-- What the user may not do has to be known before anything is done.
local needed = { { 'DEL', KEYS[1] }, { 'FLUSHDB', 'ASYNC' } }
if how == 'database' then
  table.insert(needed, { 'SWAPDB', to, scratch })
else
  table.insert(needed, { 'SELECT', to })
  table.insert(needed, { 'SCAN', '0', 'MATCH', what, 'COUNT', '1000' })
  table.insert(needed, { 'UNLINK', what })
  table.insert(needed, { 'MOVE', what, to })
end
for _, command in ipairs(needed) do
  if not redis.acl_check_cmd(unpack(command)) then
    return redis.error_reply('NOPERM the user may not run ' .. command[1])
  end
end

local function each(pattern, act)
  local cursor = '0'
  repeat
    local page = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', '1000')
    cursor = page[1]
    for _, key in ipairs(page[2]) do
      act(key)
    end
  until cursor == '0'
end

redis.call('DEL', KEYS[1])
if how == 'database' then
  redis.call('SWAPDB', to, scratch)
else
  redis.call('SELECT', to)
  if how == 'key' then
    redis.call('UNLINK', what)
  else
    each(what, function(key) redis.call('UNLINK', key) end)
  end
  redis.call('SELECT', scratch)
  each('*', function(key) redis.call('MOVE', key, to) end)
end
redis.call('FLUSHDB', 'ASYNC')
return redis.status_reply('OK')
