-- Health of a WebhookEndpoint for Argo CD. A receiver that fails is no fault of what was synced: the endpoint stays
-- Healthy, and the message tells of it.
local hs = {status = "Progressing", message = "waiting for the manager"}
if obj.status == nil or obj.status.conditions == nil then
  return hs
end
local found = {}
for _, condition in ipairs(obj.status.conditions) do
  found[condition.type] = condition
end
local ready = found["Ready"]
if ready == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return hs
end
hs.message = ready.message
if obj.spec.suspend then
  hs.status = "Suspended"
  return hs
end
if found["Stalled"] ~= nil and found["Stalled"].status == "True" then
  hs.status = "Degraded"
  return hs
end
if ready.status == "True" then
  hs.status = "Healthy"
  local delivering = found["Delivering"]
  if delivering ~= nil and delivering.status ~= "True" and delivering.reason ~= "NoDeliveriesYet" then
    hs.message = delivering.message
  end
  return hs
end
return hs
