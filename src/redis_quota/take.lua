-- Takes what a request may come to use from every tenant, or nothing from any.
-- KEYS: whether the request has ended; for each tenant its leases, their sum, and what is used of
-- each limit.
-- ARGV: id, now and end of the lease (seconds), tokens, tokens that must be left, whether to take
-- them anyway, number of tenants; for each tenant its number of limits, and for each of these the
-- amount, 1 where requests are counted, and the end of the window.
-- Answers: whether they were taken; for each tenant the sum of leases and what is used of each
-- limit, before this request.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {0}
end
local function number(key)
  return tonumber(redis.call('GET', key) or '0')
end
local id, now, lease_end = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local tokens, wanted, anyway = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local member = id .. ':' .. ARGV[4]
local key, argument = 2, 8
local answer, enough = {1}, true
for _ = 1, tonumber(ARGV[7]) do
  local leases, sum = KEYS[key], KEYS[key + 1]
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
    redis.call('ZREM', leases, old)
    redis.call('DECRBY', sum, string.match(old, ':(%d+)$'))
  end
  local reserved = math.max(number(sum), 0)
  answer[#answer + 1] = reserved
  local limits = tonumber(ARGV[argument])
  for i = 1, limits do
    local amount, requests = tonumber(ARGV[argument + 3 * i - 2]), ARGV[argument + 3 * i - 1] == '1'
    local used = number(KEYS[key + 1 + i])
    answer[#answer + 1] = used
    if requests then
      enough = enough and used + 1 <= amount
    else
      enough = enough and used + reserved + wanted <= amount
    end
  end
  key, argument = key + 2 + limits, argument + 1 + 3 * limits
end
if not (enough or anyway) then
  answer[1] = 0
  return answer
end
key, argument = 2, 8
for _ = 1, tonumber(ARGV[7]) do
  local leases, sum = KEYS[key], KEYS[key + 1]
  if redis.call('ZADD', leases, 'NX', lease_end, member) == 1 then
    redis.call('INCRBY', sum, tokens)
    -- Both outlive the lease, and go when nobody has one.
    redis.call('EXPIREAT', leases, lease_end + 60)
    redis.call('EXPIREAT', sum, lease_end + 60)
    local limits = tonumber(ARGV[argument])
    for i = 1, limits do
      if ARGV[argument + 3 * i - 1] == '1' then
        redis.call('INCRBY', KEYS[key + 1 + i], 1)
        redis.call('EXPIREAT', KEYS[key + 1 + i], ARGV[argument + 3 * i])
      end
    end
  end
  key = key + 2 + tonumber(ARGV[argument])
  argument = argument + 1 + 3 * tonumber(ARGV[argument])
end
return answer
