-- Routes a request without the brain: finds the model in the body that ext_authz has buffered.
-- Runs only on the route of requests that no cluster header has claimed, so it costs nothing while the brain answers.
local CLUSTER_HEADER = "@CLUSTER_HEADER@"
local STRATEGY_HEADER = "@STRATEGY_HEADER@"
local NAMESPACE_HEADER = "@NAMESPACE_HEADER@"
local STRATEGY = "@FALLBACK_STRATEGY@"
local QUOTE, OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET = 34, 123, 125, 91, 93

-- Index of the quote that ends the string whose text starts at `pos`; nil when there is none.
local function string_end(body, pos)
  while true do
    local at = find(body, '["\\]', pos)
    if not at then return nil end
    if byte(body, at) == QUOTE then return at end
    pos = at + 2
  end
end

-- Index behind the value that starts at `pos`; nil when it does not end.
local function value_end(body, pos)
  local first = byte(body, pos)
  if first == QUOTE then
    local close = string_end(body, pos + 1)
    return close and close + 1
  end
  if first ~= OPEN_BRACE and first ~= OPEN_BRACKET then
    local _, last = find(body, "^[%w+.-]+", pos)
    return last and last + 1
  end
  local depth = 0
  while true do
    local at = find(body, '["{}%[%]]', pos)
    if not at then return nil end
    local kind = byte(body, at)
    if kind == QUOTE then
      at = string_end(body, at + 1)
      if not at then return nil end
    elseif kind == OPEN_BRACE or kind == OPEN_BRACKET then
      depth = depth + 1
    else
      depth = depth - 1
      if depth == 0 then return at + 1 end
    end
    pos = at + 1
  end
end

local function utf8_of(code)
  if code < 0x80 then return string.char(code) end
  if code < 0x800 then return string.char(0xC0 + math.floor(code / 0x40), 0x80 + code % 0x40) end
  return string.char(0xE0 + math.floor(code / 0x1000), 0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
end

local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function unescape(text)
  if not find(text, "\\", 1, true) then return text end
  return (gsub(text, "\\(.)(%x?%x?%x?%x?)", function(letter, hex)
    if letter == "u" and #hex == 4 then return utf8_of(tonumber(hex, 16)) end
    return (ESCAPES[letter] or letter) .. hex
  end))
end

-- The value of the last top-level key "model", as JSON parsers have it; else nil and which of REFUSALS fits.
local function model_of(body)
  local _, pos = find(body, "^%s*{%s*")
  if not pos then return nil, "not_json" end
  pos = pos + 1
  local first, last
  while byte(body, pos) == QUOTE do
    local close = string_end(body, pos + 1)
    if not close then return nil, "not_json" end
    local is_model = unescape(sub(body, pos + 1, close - 1)) == "model"
    local _, colon = find(body, "^%s*:%s*", close + 1)
    if not colon then return nil, "not_json" end
    local after = value_end(body, colon + 1)
    if not after then return nil, "not_json" end
    if is_model then first, last = colon + 1, after - 1 end
    local _, comma = find(body, "^%s*,%s*", after)
    pos = comma and comma + 1 or select(2, find(body, "^%s*", after)) + 1
    if not comma and byte(body, pos) ~= CLOSE_BRACE then return nil, "not_json" end
  end
  if not find(body, "^}%s*$", pos) then return nil, "not_json" end
  if not first or sub(body, first, last) == "null" then return nil, "missing" end
  if byte(body, first) ~= QUOTE or last == first + 1 then return nil, "invalid" end
  return unescape(sub(body, first + 1, last - 1))
end

local REFUSALS = {
  not_json = { "@BAD_BODY_HEADER@", [[@NOT_JSON@]] },
  missing = { "@NO_MODEL_HEADER@", [[@MODEL_MISSING@]] },
  invalid = { "@NO_MODEL_HEADER@", [[@MODEL_INVALID@]] },
}

-- Refuses a model that no route has claimed. `known` is what the route of unclaimed requests knows of models.
local function refuse_model(handle, known, namespace, model)
  local several = namespace == "" and known:get("several")[model]
  if several then
    local body = completed([[@AMBIGUOUS_MODEL@]], { MODEL = json_text(model), NAMES = json_text(several) })
    refuse(handle, "400", "@AMBIGUOUS_MODEL_HEADER@", "true", body)
    return
  end
  refuse_unknown(handle, namespace, model, known:get("names")[namespace])
end

function envoy_on_request(handle)
  -- The brain has named a cluster that the routes do not have (yet): the route itself says 503.
  if handle:headers():get(CLUSTER_HEADER) then return end
  local body = handle:body()
  local size = body and body:length() or 0
  local model, refusal = nil, "not_json"
  if size > 0 then model, refusal = model_of(body:getBytes(0, size)) end
  if not model then
    refuse(handle, "400", REFUSALS[refusal][1], "true", REFUSALS[refusal][2])
    return
  end
  -- Asked for anew: what was had before body() is of no use after it.
  local headers = handle:headers()
  local namespace = match(headers:get(":path"), "^@NAMESPACE_PREFIX@([^/]+)/") or headers:get(NAMESPACE_HEADER) or ""
  -- What cannot be the name of a cluster must not become a header.
  if not find(model, "%c") and not find(namespace, "/", 1, true) then
    headers:replace(CLUSTER_HEADER, namespace .. "/" .. model)
    headers:replace(STRATEGY_HEADER, STRATEGY)
    handle:clearRouteCache()
  end
  -- Only the route of unclaimed requests carries names: still there, no model has claimed the request.
  local known = handle:metadata()
  if known:get("names") then
    headers:remove(CLUSTER_HEADER)
    headers:remove(STRATEGY_HEADER)
    refuse_model(handle, known, namespace, model)
  end
end
