-- Merges traits into one profile: KEYS[1]. Nodes run it at the same time, in any order and twice:
-- what is left is the same.
-- ARGV: channel, message, most traits, most bytes, seconds to live (0: no end), time and end of a
-- pull ('' for none), then name, time, JSON of each trait.

-- Redis compares strings by its locale; nodes need one order.
local function is_later(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

local head = redis.call('HMGET', KEYS[1], 'link', 'cut', 'count', 'bytes', 'pulled')
if head[1] then return {'linked', head[1]} end
local cut = tonumber(head[2] or '0')
local count = tonumber(head[3] or '0')
local bytes = tonumber(head[4] or '0')

local fields = {}
for i = 8, #ARGV, 3 do fields[#fields + 1] = 't:' .. ARGV[i] end
local stored = {}
if #fields > 0 then stored = redis.call('HMGET', KEYS[1], unpack(fields)) end

local set = {}
for n, field in ipairs(fields) do
  local at, json = ARGV[6 + n * 3], ARGV[7 + n * 3]
  local time, old, take = tonumber(at), stored[n], true
  local name_bytes = #field - 2
  if time <= cut then
    take = false
  elseif old then
    local colon = old:find(':', 1, true)
    local before, value = tonumber(old:sub(1, colon - 1)), old:sub(colon + 1)
    if before > time then
      take = false
    elseif before == time then
      if value == json then
        take = false
      elseif (value == 'null') ~= (json == 'null') then
        take = value == 'null'
      else
        take = is_later(json, value)
      end
    end
    if take then bytes = bytes - name_bytes - #value end
  else
    count = count + 1
  end
  if take then
    bytes = bytes + name_bytes + #json
    set[#set + 1] = field
    set[#set + 1] = at .. ':' .. json
  end
end

if count > tonumber(ARGV[3]) then return {'traits', tostring(count)} end
if bytes > tonumber(ARGV[4]) then return {'bytes', tostring(bytes)} end
local pulled = ARGV[6] ~= '' and tonumber(ARGV[6]) > tonumber(head[5] or '0')
if #set == 0 and not pulled then return {'same'} end
redis.call('HSET', KEYS[1], 'count', count, 'bytes', bytes)
if pulled then redis.call('HSET', KEYS[1], 'pulled', ARGV[6], 'until', ARGV[7]) end
if #set > 0 then redis.call('HSET', KEYS[1], unpack(set)) end
if count == 0 and pulled then
  -- Only that nobody is known.
  redis.call('PEXPIREAT', KEYS[1], ARGV[7])
elseif ARGV[5] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[5])
else
  redis.call('PERSIST', KEYS[1])
end
if #set > 0 then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
return {'done'}
