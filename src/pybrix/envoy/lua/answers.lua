-- What scripts that answer requests share. It comes before each of them.
local find, byte, sub, gsub, match = string.find, string.byte, string.sub, string.gsub, string.match
local LONGEST_SHOWN = 200

local function json_text(text)
  return (gsub(text, '[%c"\\]', function(letter) return string.format("\\u%04x", byte(letter)) end))
end

local function refuse(handle, status, marker, value, body)
  handle:respond({ [":status"] = status, [marker] = value }, body)
end

local function completed(template, words)
  return (gsub(template, "%$(%u+)", words))
end

-- Says that a model does not exist where the client looked; `names` are those that do.
local function refuse_unknown(handle, namespace, model, names)
  local marker = gsub(sub(model, 1, LONGEST_SHOWN), "[^%w/:._-]", function(letter)
    return string.format("%%%02X", byte(letter))
  end)
  local body = completed([[@UNKNOWN_MODEL@]], {
    MODEL = json_text(#model > LONGEST_SHOWN and sub(model, 1, LONGEST_SHOWN) .. "..." or model),
    WHERE = namespace ~= "" and " in namespace " .. json_text(sub(namespace, 1, LONGEST_SHOWN)) or "",
    NAMES = json_text(names or "none"),
  })
  refuse(handle, "404", "@NO_MODEL_BACKENDS_HEADER@", marker, body)
end
