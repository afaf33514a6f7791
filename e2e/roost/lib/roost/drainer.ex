defmodule Roost.Drainer do
  @moduledoc """
  Closes the streams on shutdown as `Phoenix.Socket.PoolDrainer` does: `batch_size` of them every
  `batch_interval` milliseconds, told and not waited for, all of it within `shutdown`.
  """

  use GenServer
  require Logger

  def child_spec(_opts) do
    config = Application.fetch_env!(:roost, :drainer)

    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [config]},
      shutdown: config[:shutdown]
    }
  end

  def start_link(config), do: GenServer.start_link(__MODULE__, config, name: __MODULE__)

  @impl true
  def init(config) do
    Process.flag(:trap_exit, true)
    {:ok, config}
  end

  @impl true
  def terminate(_reason, config) do
    batches = Enum.chunk_every(Roost.Streams.pids(), config[:batch_size])
    Logger.info("Shutting down #{batches |> Enum.concat() |> length()} streams")

    for {pids, index} <- Enum.with_index(batches, 1) do
      Enum.each(pids, &send(&1, :drain))
      if index < length(batches), do: Process.sleep(config[:batch_interval])
    end
  end
end
