-- Offers what can do something now. What is run all the same, the operator answers in status.lastCommand.
local status = obj.status or {}
local candidate = status.candidate or {}
local under_way = candidate.revision ~= nil and candidate.verdict == nil
local step = under_way and (candidate.steps or {})[(candidate.step or 0) + 1]

local can = {}
can["promote"] = step and step.pause
can["promote-full"] = step
can["abort"] = under_way or (candidate.verdict or {}).held or status.bake
can["retry"] = candidate.verdict
can["pause"] = under_way and not status.paused
can["resume"] = status.paused
can["restart"] = candidate.revision or status.stable
can["rollback"] = candidate.revision == nil and status.previous

local actions = {}
for _, name in ipairs({"promote", "promote-full", "abort", "retry", "pause", "resume", "restart", "rollback"}) do
  actions[name] = {disabled = not can[name]}
end
return actions
