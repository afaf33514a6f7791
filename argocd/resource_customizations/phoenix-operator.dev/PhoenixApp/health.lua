-- The status says it all: one word, one sentence, and the generation that both speak of.
local status = obj.status or {}
if status.phase == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not yet seen this generation"}
end
local health = {
  Healthy = "Healthy", Paused = "Suspended", Suspended = "Suspended",
  Failed = "Degraded", Aborted = "Degraded", RolledBack = "Degraded", Blocked = "Degraded",
}
return {status = health[status.phase] or "Progressing", message = status.message or ""}
