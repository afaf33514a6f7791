defmodule Roost.Crash do
  @moduledoc "The fault of the image `crash`: the release boots, and two seconds later it is gone."

  use GenServer
  require Logger

  @after_ms 2_000

  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil)

  @impl true
  def init(nil) do
    Process.send_after(self(), :crash, @after_ms)
    {:ok, nil}
  end

  @impl true
  def handle_info(:crash, state) do
    Logger.error("roost crash: this version exits with status 1 by design")
    Logger.flush()
    System.halt(1)
    {:noreply, state}
  end
end
