defmodule Roost.Repo do
  @moduledoc "A pool of POOL_SIZE real connections that outlives its database."

  use Supervisor
  alias Roost.Repo.{Connection, Keeper}

  def start_link(opts), do: Supervisor.start_link(__MODULE__, opts, name: __MODULE__)

  @impl true
  def init(_opts) do
    :ets.new(__MODULE__, [:named_table, :public, read_concurrency: true])
    url = Application.fetch_env!(:roost, :database_url)

    for slot <- 1..Application.fetch_env!(:roost, __MODULE__)[:pool_size]//1 do
      Supervisor.child_spec({Keeper, {__MODULE__, slot, url}}, id: slot)
    end
    |> Supervisor.init(strategy: :one_for_one)
  end

  @doc "Runs one statement on any open connection. Errors: an exception, for its message."
  def query(sql, timeout_ms \\ 5_000) do
    case :ets.tab2list(__MODULE__) do
      [] ->
        {:error, %Connection.Error{message: "no connection to the database is open"}}

      open ->
        {_slot, conn} = Enum.random(open)
        run(conn, sql, timeout_ms)
    end
  end

  # A connection that does not answer in time is of no use to the next caller either.
  defp run(conn, sql, timeout_ms) do
    with {:error, %{message: "connection lost" <> _}} = error <-
           Connection.query(conn, sql, timeout_ms) do
      Connection.kill(conn)
      error
    end
  end
end
