-- Lets only requests through that have an API key, and names its user to what comes after. It asks nobody: the context
-- of the routes maps SHA-256 hashes of keys to users, and nothing that it says lets a request without a key through.
local USER_HEADER = "@USER_HEADER@"
local KEY_PREFIX, KEY_BYTES = "@KEY_PREFIX@", @KEY_BYTES@
local MOST_REMEMBERED = 4096

local band, bnot, bxor, ror, rshift, tobit = bit.band, bit.bnot, bit.bxor, bit.ror, bit.rshift, bit.tobit
local byte, match, rep, sub = string.byte, string.match, string.rep, string.sub

-- The first 32 bits of the fractional parts of roots of primes (FIPS 180-4, 4.2.2 and 5.3.3).
local ROUNDS, INITIAL = {}, {}
do
  local function root_bits(exact)
    return tobit(math.floor((exact % 1) * 4294967296))
  end
  local prime, found = 2, 0
  while found < 64 do
    local is_prime = true
    for divisor = 2, math.floor(math.sqrt(prime)) do
      if prime % divisor == 0 then is_prime = false break end
    end
    if is_prime then
      found = found + 1
      -- The cube root to the last bit: Newton's step from the power's rounded value.
      local root = prime ^ (1 / 3)
      root = root - (root * root * root - prime) / (3 * root * root)
      ROUNDS[found] = root_bits(root)
      if found <= 8 then INITIAL[found] = root_bits(math.sqrt(prime)) end
    end
    prime = prime + 1
  end
end

-- SHA-256 in hex of a text that fits one block with its padding: at most 55 bytes.
local function sha256(text)
  local size = #text
  local block = text .. "\128" .. rep("\0", 61 - size) .. string.char(math.floor(size / 32), size * 8 % 256)
  local w = {}
  for i = 1, 16 do
    local a, b, c, d = byte(block, 4 * i - 3, 4 * i)
    w[i] = tobit(a * 16777216 + b * 65536 + c * 256 + d)
  end
  for i = 17, 64 do
    local early, late = w[i - 15], w[i - 2]
    local s0 = bxor(ror(early, 7), ror(early, 18), rshift(early, 3))
    local s1 = bxor(ror(late, 17), ror(late, 19), rshift(late, 10))
    w[i] = tobit(w[i - 16] + s0 + w[i - 7] + s1)
  end
  local a, b, c, d, e, f, g, h = unpack(INITIAL)
  for i = 1, 64 do
    local s1 = bxor(ror(e, 6), ror(e, 11), ror(e, 25))
    local choice = bxor(band(e, f), band(bnot(e), g))
    local t1 = tobit(h + s1 + choice + ROUNDS[i] + w[i])
    local s0 = bxor(ror(a, 2), ror(a, 13), ror(a, 22))
    local majority = bxor(band(a, b), band(a, c), band(b, c))
    h, g, f, e, d, c, b, a = g, f, e, tobit(d + t1), c, b, a, tobit(t1 + s0 + majority)
  end
  local last = { a, b, c, d, e, f, g, h }
  for i = 1, 8 do last[i] = bit.tohex(tobit(last[i] + INITIAL[i])) end
  return table.concat(last)
end

-- Hashes of keys that were good when they were last seen, so that a client that comes again costs no hashing.
local remembered, count = {}, 0

local function refuse(handle, body)
  handle:respond({ [":status"] = "401", ["www-authenticate"] = "Bearer" }, body)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local given = headers:get("authorization")
  local key = given and match(given, "^[Bb]earer +(%S+) *$") or not given and headers:get("x-api-key")
  if not key then
    refuse(handle, [[@KEY_MISSING@]])
    return
  end
  local user
  if #key == KEY_BYTES and sub(key, 1, #KEY_PREFIX) == KEY_PREFIX then
    local hash = remembered[key] or sha256(key)
    user = handle:filterContext():get(hash)
    if user and not remembered[key] then
      if count >= MOST_REMEMBERED then remembered, count = {}, 0 end
      remembered[key], count = hash, count + 1
    end
  end
  if not user then
    refuse(handle, [[@KEY_WRONG@]])
    return
  end
  -- An engine has no business with the keys of its clients.
  headers:remove("authorization")
  headers:remove("x-api-key")
  headers:replace(USER_HEADER, user)
end
