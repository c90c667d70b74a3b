-- Answers GET /v1/models/MODEL from what the route knows of models; /v1/models/ becomes /v1/models.
function envoy_on_request(handle)
  local headers = handle:headers()
  local path = match(headers:get(":path"), "^[^?]*")
  local before, asked = match(path, "^(.-/v1/models)/(.*)$")
  if asked == "" then
    headers:replace(":path", before)
    handle:clearRouteCache()
    return
  end
  local model = gsub(asked, "%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end)
  local namespace = match(path, "^@NAMESPACE_PREFIX@([^/]+)/") or headers:get("@NAMESPACE_HEADER@") or ""
  local known = handle:metadata()
  local there = known:get("models")[namespace]
  local parent = there and there[model]
  if parent then
    local entry = parent == true and [[@MODEL_ENTRY@]] or [[@ADAPTER_ENTRY@]]
    local body = completed(entry, { MODEL = json_text(model), PARENT = parent ~= true and json_text(parent) })
    handle:respond({ [":status"] = "200" }, body)
    return
  end
  -- Shown as it was asked for when it may not be text.
  local shown = find(model, "[\128-\255]") and asked or model
  refuse_unknown(handle, namespace, shown, known:get("names")[namespace])
end
