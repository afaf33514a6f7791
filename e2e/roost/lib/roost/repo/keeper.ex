defmodule Roost.Repo.Keeper do
  @moduledoc """
  Keeps one connection of the pool open, as DBConnection does: while the database is away it
  tries again with growing pauses, and the application stays up.
  """

  use GenServer
  require Logger
  alias Roost.Repo.Connection

  @backoff_min_ms 500
  @backoff_max_ms 5_000

  def start_link({table, slot, url}), do: GenServer.start_link(__MODULE__, {table, slot, url})

  @impl true
  def init({table, slot, url}) do
    Process.flag(:trap_exit, true)

    state = %{
      table: table,
      slot: slot,
      url: url,
      conn: nil,
      backoff: @backoff_min_ms,
      opener: nil
    }

    {:ok, state, {:continue, :open}}
  end

  @impl true
  def handle_continue(:open, state), do: {:noreply, start_open(state)}

  @impl true
  def handle_info(:open, state), do: {:noreply, start_open(state)}

  def handle_info({:opened, {:ok, conn}}, state) do
    Process.monitor(conn)
    :ets.insert(state.table, {state.slot, conn})
    {:noreply, %{state | conn: conn, backoff: @backoff_min_ms}}
  end

  def handle_info({:opened, {:error, error}}, state) do
    Logger.error("Roost.Repo failed to connect: #{Exception.message(error)}")
    {:noreply, retry(state)}
  end

  def handle_info({:DOWN, _ref, :process, conn, _reason}, %{conn: conn} = state) do
    Logger.error("Roost.Repo lost a connection")
    :ets.delete(state.table, state.slot)
    {:noreply, retry(%{state | conn: nil})}
  end

  # Only the opener is linked; it ends normally, or with what the driver died of.
  def handle_info({:EXIT, opener, reason}, %{opener: opener} = state) when reason != :normal do
    {:noreply, retry(%{state | opener: nil})}
  end

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, %{conn: nil}), do: :ok

  def terminate(_reason, state) do
    :ets.delete(state.table, state.slot)
    Connection.close(state.conn)
  end

  # Opening blocks for as long as the network pleases; this process must not.
  defp start_open(state) do
    keeper = self()

    opener =
      spawn_link(fn -> send(keeper, {:opened, Connection.open(state.url, "#{node()}")}) end)

    %{state | opener: opener}
  end

  defp retry(state) do
    Process.send_after(self(), :open, state.backoff + :rand.uniform(state.backoff))
    %{state | backoff: min(state.backoff * 2, @backoff_max_ms)}
  end
end
