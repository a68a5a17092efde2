-- Health of a Redelivery for Argo CD: under way, carried out, or an order that nobody can carry out.
local hs = {status = "Progressing", message = "waiting for the manager"}
if obj.status == nil or obj.status.conditions == nil then
  return hs
end
for _, condition in ipairs(obj.status.conditions) do
  if condition.type == "Complete" then
    hs.message = condition.message
    if condition.status == "True" then
      hs.status = "Healthy"
    elseif condition.status == "False" then
      hs.status = "Degraded"
    end
  end
end
return hs
