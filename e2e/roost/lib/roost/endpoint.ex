defmodule Roost.Endpoint do
  @moduledoc """
  The children of a Phoenix endpoint, in its order: the HTTP server, then the socket drainer.

  A supervisor stops its children in reverse, so on SIGTERM long-lived streams are closed while
  the listener still accepts, as in `Phoenix.Endpoint.Supervisor`. Nothing listens unless
  PHX_SERVER was set.
  """

  use Supervisor

  def start_link(opts), do: Supervisor.start_link(__MODULE__, opts, name: __MODULE__)

  @impl true
  def init(_opts) do
    if(Application.get_env(:roost, __MODULE__, [])[:server], do: children(), else: [])
    |> Supervisor.init(strategy: :one_for_one)
  end

  @doc "The address that links are made of; with `broadcast/3` the mark of a Phoenix endpoint."
  def struct_url do
    url = Application.get_env(:roost, __MODULE__, [])[:url] || []
    %URI{scheme: url[:scheme], host: url[:host], port: url[:port]}
  end

  @doc "There are no channels, so nobody listens."
  def broadcast(_topic, _event, _message), do: :ok

  defp children, do: [Roost.Streams, Roost.Http.Server, Roost.Drainer]
end
