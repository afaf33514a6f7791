-- Offers what can do something now. What is run all the same, the operator answers in status.lastCommand.
local status = obj.status or {}
local candidate = status.candidate or {}
local under_way = candidate.revision ~= nil and candidate.verdict == nil
local step = under_way and (candidate.steps or {})[(candidate.step or 0) + 1]
-- What follows a rollout: a contract, or the way back of migrations.
local follows = (status.followUp or {}).state
local busy = follows == "Running" or follows == "Ending"
local failed = follows == "WaitingToRetry" or follows == "Failed" and status.followUp.reason ~= "NewerSpec"
local back = candidate.revision == nil and status.previous and not busy
-- At rest the spec is the stable revision's, and so is its way back.
local undoes = back and status.observedGeneration == obj.metadata.generation
  and ((obj.spec or {}).migrations or {}).rollback
local safe = status.rollbackSafe ~= false

local can = {}
can["promote"] = step and step.pause
can["promote-full"] = step
can["abort"] = under_way or (candidate.verdict or {}).held or status.bake
  or follows and follows ~= "Failed" and follows ~= "Succeeded"
can["retry"] = (candidate.verdict or failed) and not busy
can["pause"] = under_way and not status.paused
can["resume"] = status.paused
can["restart"] = candidate.revision or status.stable
can["rollback"] = back and safe
can["rollback-force"] = back and not safe
can["rollback-with-migrations"] = undoes and safe
can["rollback-force-with-migrations"] = undoes and not safe

local actions = {}
for _, name in ipairs({
  "promote", "promote-full", "abort", "retry", "pause", "resume", "restart",
  "rollback", "rollback-force", "rollback-with-migrations", "rollback-force-with-migrations",
}) do
  actions[name] = {disabled = not can[name]}
end
return actions
