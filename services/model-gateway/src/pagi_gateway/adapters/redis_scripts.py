"""What Redis does in one step with the counters of budgets.

A counter is a hash (s0 s1 s2: spent; h0 h1 h2: set aside; each in the order of Amounts) and a sorted set of leases,
`call|h0|h1|h2` by the time of their death. All keys share one hash tag, so that a cluster keeps them together.
Numbers are exact up to 2^53: 9 million US dollars.
"""

from __future__ import annotations

_RELEASE = """
local function release(h, z, now)
  local dead = redis.call('ZRANGEBYSCORE', z, '-inf', now)
  for _, member in ipairs(dead) do
    local a, b, c = string.match(member, '|(%d+)|(%d+)|(%d+)$')
    redis.call('HINCRBY', h, 'h0', 0 - tonumber(a))
    redis.call('HINCRBY', h, 'h1', 0 - tonumber(b))
    redis.call('HINCRBY', h, 'h2', 0 - tonumber(c))
    redis.call('ZREM', z, member)
  end
end
"""
# KEYS: hash and sorted set of each counter. ARGV: now, death of the lease (seconds), call, three amounts; then for
# each counter three limits ('' for none) and when it may be deleted. Answers {} or {counter, kind, spent, held}.
RESERVE = (
    _RELEASE
    + """
local now, death, call = ARGV[1], ARGV[2], ARGV[3]
local count = #KEYS / 2
for i = 1, count do
  local h = KEYS[2 * i - 1]
  release(h, KEYS[2 * i], now)
  local v = redis.call('HMGET', h, 's0', 's1', 's2', 'h0', 'h1', 'h2')
  for kind = 0, 2 do
    local limit = ARGV[7 + 4 * (i - 1) + kind]
    if limit ~= '' then
      local spent, held = tonumber(v[kind + 1] or 0), tonumber(v[kind + 4] or 0)
      if spent + held + tonumber(ARGV[4 + kind]) > tonumber(limit) then
        return {i - 1, kind, v[kind + 1] or '0', v[kind + 4] or '0'}
      end
    end
  end
end
local member = call .. '|' .. ARGV[4] .. '|' .. ARGV[5] .. '|' .. ARGV[6]
for i = 1, count do
  local h, z = KEYS[2 * i - 1], KEYS[2 * i]
  if redis.call('ZADD', z, death, member) == 1 then
    redis.call('HINCRBY', h, 'h0', ARGV[4])
    redis.call('HINCRBY', h, 'h1', ARGV[5])
    redis.call('HINCRBY', h, 'h2', ARGV[6])
  end
  redis.call('EXPIREAT', h, ARGV[10 + 4 * (i - 1)])
  redis.call('EXPIREAT', z, ARGV[10 + 4 * (i - 1)])
end
return {}
"""
)
# KEYS: the mark that the call is settled, then as above. ARGV: call, three amounts set aside, three used, how long the
# mark lives (seconds); then for each counter when it may be deleted. Answers whether it was not settled before.
SETTLE = """
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[8]) then return 0 end
local member = ARGV[1] .. '|' .. ARGV[2] .. '|' .. ARGV[3] .. '|' .. ARGV[4]
for i = 1, (#KEYS - 1) / 2 do
  local h, z = KEYS[2 * i], KEYS[2 * i + 1]
  local held = redis.call('ZREM', z, member)
  for kind = 0, 2 do
    if held == 1 then redis.call('HINCRBY', h, 'h' .. kind, 0 - tonumber(ARGV[2 + kind])) end
    redis.call('HINCRBY', h, 's' .. kind, ARGV[5 + kind])
  end
  redis.call('EXPIREAT', h, ARGV[8 + i])
end
return 1
"""
# KEYS: hash and sorted set of one counter. ARGV: now.
COUNTED = (
    _RELEASE
    + """
release(KEYS[1], KEYS[2], ARGV[1])
return redis.call('HMGET', KEYS[1], 's0', 's1', 's2', 'h0', 'h1', 'h2')
"""
)
