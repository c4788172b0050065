-- A request has ended: gives back what it took, and charges what it used.
-- KEYS: whether the request has ended; for each tenant its leases, their sum, and what is used of
-- each limit: of tokens in the window of now, of requests in that when it was let in.
-- ARGV: id, seconds to remember that it has ended, tokens it took, tokens it used, whether it counts,
-- number of tenants; for each tenant its number of limits, and for each of these 1 where requests
-- are counted, and the end of the window.
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[2]) then
  return 0
end
local member, counts = ARGV[1] .. ':' .. ARGV[3], ARGV[5] == '1'
local key, argument = 2, 7
for _ = 1, tonumber(ARGV[6]) do
  local held = redis.call('ZREM', KEYS[key], member) == 1
  if held then
    redis.call('DECRBY', KEYS[key + 1], ARGV[3])
  end
  local limits = tonumber(ARGV[argument])
  for i = 1, limits do
    local used, add = KEYS[key + 1 + i], 0
    if ARGV[argument + 2 * i - 1] == '0' then
      add = tonumber(ARGV[4])
    elseif held and not counts then
      add = -1
    elseif not held and counts then
      -- It was sent without being counted.
      add = 1
    end
    if add ~= 0 then
      redis.call('INCRBY', used, add)
      redis.call('EXPIREAT', used, ARGV[argument + 2 * i])
    end
  end
  key, argument = key + 2 + limits, argument + 1 + 2 * limits
end
return 1
