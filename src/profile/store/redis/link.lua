-- Lets the profile KEYS[1] be found under another key. The newest link wins.
-- ARGV: channel, message, seconds to live (0: no end), time, the other key, milliseconds within
-- which a repeat is not worth a write, seconds that a claim lives ('' for what is no claim).
-- Returns what stands under KEYS[1], for its traits to be merged into the other; nothing when
-- the link is not taken.
local old = redis.call('HGET', KEYS[1], 'link')
local at = tonumber(ARGV[4])
local claim = ARGV[7] ~= ''
if old then
  local colon = old:find(':', 1, true)
  local time, target = tonumber(old:sub(1, colon - 1)), old:sub(colon + 1)
  if time > at then return {} end
  local claimed = redis.call('HEXISTS', KEYS[1], 'claimed') == 1
  -- Nor does a claim lead elsewhere what the site has linked.
  if claim and not claimed and target ~= ARGV[5] then return {} end
  if target == ARGV[5] then
    if at - time < tonumber(ARGV[6]) and (claim or not claimed) then return {} end
    -- What the site has said does not become a claim.
    if not claimed then claim = false end
  elseif time == at then
    local later = #ARGV[5] > #target
    for i = 1, math.min(#ARGV[5], #target) do
      local x, y = ARGV[5]:byte(i), target:byte(i)
      if x ~= y then later = x > y break end
    end
    if not later then return {} end
  end
end
redis.call('HSET', KEYS[1], 'link', ARGV[4] .. ':' .. ARGV[5])
local lives = tonumber(ARGV[3])
if claim then
  redis.call('HSET', KEYS[1], 'claimed', '1')
  if lives == 0 or lives > tonumber(ARGV[7]) then lives = tonumber(ARGV[7]) end
else
  redis.call('HDEL', KEYS[1], 'claimed')
end
if lives > 0 then redis.call('EXPIRE', KEYS[1], string.format('%.0f', lives)) else redis.call('PERSIST', KEYS[1]) end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
