defmodule Roost.Application do
  @moduledoc "Children in the order `mix phx.new` gives them: telemetry, repo, cluster, endpoint."

  use Application

  @impl true
  def start(_type, _args) do
    children =
      [Roost.Metrics, Roost.Faults, Roost.Repo, Roost.Cluster, Roost.Endpoint] ++
        fault(Roost.variant())

    Supervisor.start_link(children, strategy: :one_for_one, name: Roost.Supervisor)
  end

  defp fault("crash"), do: [Roost.Crash]
  defp fault(_variant), do: []
end
