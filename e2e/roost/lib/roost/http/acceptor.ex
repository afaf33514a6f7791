defmodule Roost.Http.Acceptor do
  @moduledoc "Accepts connections and hands each to a process of its own."

  use Task, restart: :permanent
  alias Roost.Http.{Connection, Listener}

  def start_link(_opts), do: Task.start_link(fn -> loop(Listener.socket()) end)

  defp loop(listener) do
    case :gen_tcp.accept(listener) do
      {:ok, socket} -> hand_over(socket)
      {:error, :closed} -> exit(:normal)
      # The peer gave up first, or file descriptors are short for a moment.
      {:error, _reason} -> Process.sleep(10)
    end

    loop(listener)
  end

  defp hand_over(socket) do
    {:ok, pid} = DynamicSupervisor.start_child(Connection.Supervisor, {Connection, socket})

    case :gen_tcp.controlling_process(socket, pid) do
      :ok -> send(pid, :owner)
      {:error, _closed} -> send(pid, :gone)
    end
  end
end
