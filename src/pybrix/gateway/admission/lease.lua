-- One sliding window of one limit, in slices of the server's own time. Returns slice, granted, used, ms until `need` fits.
-- KEYS[1]: hash of slice number -> amount. ARGV: span in ms, slices, limit, charge, want, need, then slice/amount pairs
-- to give back.
local span, slices, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local charge, want, need = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local width = span / slices
local current = math.floor(now / width)
local counts, used = {}, 0

local held = redis.call("HGETALL", KEYS[1])
for i = 1, #held, 2 do
  local slice, amount = tonumber(held[i]), tonumber(held[i + 1])
  -- A slice of the future is of a server whose clock was ahead; it would never leave.
  if slice and amount and slice >= current - slices and slice <= current + slices then
    counts[slice] = amount
    used = used + amount
  else
    redis.call("HDEL", KEYS[1], held[i])
  end
end

local function add(slice, amount)
  counts[slice] = (counts[slice] or 0) + amount
  used = used + amount
  redis.call("HSET", KEYS[1], string.format("%d", slice), string.format("%d", counts[slice]))
end

for i = 7, #ARGV, 2 do
  local slice, amount = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  if counts[slice] then add(slice, -math.min(amount, counts[slice])) end
end
local granted = math.max(0, math.min(want, limit - used - charge))
if charge + granted > 0 then add(current, charge + granted) end
redis.call("PEXPIRE", KEYS[1], math.ceil(span + 2 * width))

local frees = 0
local over = used + math.max(need, 1) - limit
if over > 0 then
  local order = {}
  for slice in pairs(counts) do order[#order + 1] = slice end
  table.sort(order)
  for _, slice in ipairs(order) do
    over = over - counts[slice]
    if over <= 0 then
      frees = math.max(0, math.ceil((slice + slices + 1) * width - now))
      break
    end
  end
  if over > 0 then frees = span end
end
return { current, granted, used, frees }
