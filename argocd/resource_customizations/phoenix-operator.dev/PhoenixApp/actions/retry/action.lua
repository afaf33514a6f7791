-- Tries a rollout that ended without promotion again.
local status = obj.status or {}
local target = status.candidate or {revision = status.stable, attempt = status.attempt}
if target.revision == nil then
  error("the operator has not yet seen this app, so there is nothing to command; try again when it has", 0)
end
local command = "retry " .. target.revision .. "/" .. target.attempt
-- What was answered once is not answered again: one more word, which means nothing, makes it another command.
local last = status.lastCommand or {}
local answered, text, times = {[last.text or ""] = true}, command, 1
for _, earlier in ipairs(last.earlier or {}) do answered[earlier] = true end
while answered[text] do
  times = times + 1
  text = command .. " again-" .. times
end
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["phoenix-operator.dev/command"] = text
return obj
