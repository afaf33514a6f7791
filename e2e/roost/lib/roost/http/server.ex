defmodule Roost.Http.Server do
  @moduledoc """
  An HTTP/1.1 server with the shutdown of ThousandIsland and Bandit.

  Children stop in reverse: acceptors, listener, then the connections, each of which may take
  15 s to finish the request it is answering.
  """

  use Supervisor
  alias Roost.Http.{Acceptor, Connection, Listener}

  @acceptors 20

  def start_link(opts), do: Supervisor.start_link(__MODULE__, opts, name: __MODULE__)

  @impl true
  def init(_opts) do
    acceptors = for n <- 1..@acceptors, do: Supervisor.child_spec(Acceptor, id: {Acceptor, n})

    [
      {DynamicSupervisor, name: Connection.Supervisor, strategy: :one_for_one},
      Listener | acceptors
    ]
    |> Supervisor.init(strategy: :rest_for_one, max_restarts: @acceptors)
  end
end
