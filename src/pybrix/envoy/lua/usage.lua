-- Finds token usage in a response, JSON or server-sent events, while it streams through; sets it as dynamic metadata.
-- A chunk may end anywhere: only the few bytes that may belong to an unfinished "usage" object are ever kept.
local find, match, sub, byte = string.find, string.match, string.sub, string.byte
local LINE_FEED = 10
local KEY = '"usage"'
-- A usage object is a few hundred bytes; what claims to be one and goes on for longer is something else.
local LONGEST = 4096
-- With usage in every chunk the metadata is renewed only now and then, for the sake of streams that break off.
local RENEWAL = 32

local function number(usage, key)
  return tonumber(match(usage, '"' .. key .. '"%s*:%s*(%d+)'))
end

local function merge(found, usage)
  found.prompt_tokens = number(usage, "prompt_tokens") or number(usage, "input_tokens") or found.prompt_tokens
  found.completion_tokens = number(usage, "completion_tokens") or number(usage, "output_tokens") or found.completion_tokens
  found.cached_tokens = number(usage, "cached_tokens") or number(usage, "cache_read_input_tokens") or found.cached_tokens
end

local function publish(handle, found)
  handle:streamInfo():dynamicMetadata():set("@METADATA@", "usage", found)
end

function envoy_on_response(handle)
  local carry, found, latest = "", nil, nil
  local count = 0
  for chunk in handle:bodyChunks() do
    local text = chunk:getBytes(0, chunk:length())
    if carry ~= "" then
      text = carry .. text
      carry = ""
    end
    local pos = 1
    while true do
      local first, last = find(text, KEY, pos, true)
      if not first then
        -- A key may have begun, but not in a chunk that ends with the line feed of an event, as most do.
        if byte(text, -1) ~= LINE_FEED then
          local tail = match(text, '"u?s?a?g?e?$', #text > 6 and -6 or 1)
          if tail and #text - #tail + 1 >= pos then carry = tail end
        end
        break
      end
      local usage = match(text, "^%s*:%s*(%b{})", last + 1)
      if usage then
        count = count + 1
        latest = usage
        if not found or count % RENEWAL == 0 then
          found = found or {}
          merge(found, usage)
          publish(handle, found)
          latest = nil
        end
        pos = last + 1
      elseif match(text, "^%s*$", last + 1) or match(text, "^%s*:%s*$", last + 1) or find(text, "^%s*:%s*{", last + 1) then
        if #text - first < LONGEST then
          carry = sub(text, first)
          break
        end
        pos = last + 1
      else
        pos = last + 1
      end
    end
  end
  if latest then
    merge(found, latest)
    publish(handle, found)
  end
end
