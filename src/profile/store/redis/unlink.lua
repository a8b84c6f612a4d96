-- Takes KEYS[1] away if it is a link to ARGV[3] ('' for any). With ARGV[4] = 'traits' only the traits go
-- that it had before it was a link; with 'claim' it goes only if nobody but an event says it.
-- ARGV: channel, message, the other key, which.
local link = redis.call('HGET', KEYS[1], 'link')
if not link then return 0 end
if ARGV[4] == 'traits' then
  local gone = {'count', 'bytes'}
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if field:sub(1, 2) == 't:' then gone[#gone + 1] = field end
  end
  redis.call('HDEL', KEYS[1], unpack(gone))
  return 1
end
if ARGV[3] ~= '' and link:sub(link:find(':', 1, true) + 1) ~= ARGV[3] then return 0 end
if ARGV[4] == 'claim' and redis.call('HEXISTS', KEYS[1], 'claimed') == 0 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
