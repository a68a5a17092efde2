-- Health of a DeliveryAttempt for Argo CD: a record is never the fault of what was synced. Better still, exclude the kind:
-- see resource.exclusions in docs/gitops.md.
local hs = {status = "Healthy", message = ""}
if obj.status ~= nil and obj.status.outcome ~= nil then
  hs.message = obj.status.outcome
end
return hs
