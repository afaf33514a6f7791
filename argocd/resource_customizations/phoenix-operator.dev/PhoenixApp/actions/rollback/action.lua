-- Returns to the revision that was stable before.
local status = obj.status or {}
local target = status.candidate or {revision = status.stable, attempt = status.attempt}
if target.revision == nil then
  error("the operator has not yet seen this app, so there is nothing to command; try again when it has", 0)
end
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["phoenix-operator.dev/command"] =
  "rollback " .. target.revision .. "/" .. target.attempt
return obj
