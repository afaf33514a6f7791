-- Ends the pause under way, and no other: its number is part of the command.
local status = obj.status or {}
local target = status.candidate or {revision = status.stable, attempt = status.attempt}
if target.revision == nil then
  error("the operator has not yet seen this app, so there is nothing to command; try again when it has", 0)
end
local step = target.step ~= nil and "/" .. target.step or ""
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["phoenix-operator.dev/command"] =
  "promote " .. target.revision .. "/" .. target.attempt .. step
return obj
