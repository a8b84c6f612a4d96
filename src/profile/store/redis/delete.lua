-- Deletes the profile KEYS[1] and the lists KEYS[2] and KEYS[3] of what is linked to it. It remembers when, so
-- that a late repeat of what was deleted is not taken.
-- ARGV: channel, message, time, seconds for which the time is remembered.
local link = redis.call('HGET', KEYS[1], 'link')
if link then return {'linked', link} end
local cut = math.max(tonumber(redis.call('HGET', KEYS[1], 'cut') or '0'), tonumber(ARGV[3]))
local all = redis.call('HGETALL', KEYS[1])
local kept, count, bytes = {}, 0, 0
for i = 1, #all, 2 do
  local field, value = all[i], all[i + 1]
  if field:sub(1, 2) == 't:' then
    local colon = value:find(':', 1, true)
    if tonumber(value:sub(1, colon - 1)) > cut then
      kept[#kept + 1] = field
      kept[#kept + 1] = value
      count = count + 1
      bytes = bytes + #field - 2 + #value - colon
    end
  end
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'cut', string.format('%.0f', cut), 'count', count, 'bytes', bytes)
if count > 0 then
  redis.call('HSET', KEYS[1], unpack(kept))
else
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return {'done'}
