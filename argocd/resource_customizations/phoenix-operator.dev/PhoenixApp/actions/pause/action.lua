-- Holds the rollout where it is.
local status = obj.status or {}
local target = status.candidate or {revision = status.stable, attempt = status.attempt}
if target.revision == nil then
  error("the operator has not yet seen this app, so there is nothing to command; try again when it has", 0)
end
local n = (status.lastCommand or {}).n or 0
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["phoenix-operator.dev/command"] =
  "pause " .. target.revision .. "/" .. target.attempt .. "/" .. (n + 1)
return obj
