defmodule Roost.Http.Listener do
  @moduledoc "Owns the listening socket; closing it is the second step of a shutdown."

  use GenServer
  require Logger

  @options [
    :binary,
    active: false,
    reuseaddr: true,
    nodelay: true,
    backlog: 1024,
    send_timeout: 30_000,
    send_timeout_close: true
  ]

  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The socket to accept from."
  def socket, do: GenServer.call(__MODULE__, :socket)

  @impl true
  def init(nil) do
    Process.flag(:trap_exit, true)
    port = Application.fetch_env!(:roost, :port)
    bind = Application.fetch_env!(:roost, :bind)

    case listen(bind, port) do
      {:ok, socket} ->
        Logger.info("Running Roost.Endpoint #{Roost.variant()} at #{bind}:#{port} (http)")
        {:ok, socket}

      {:error, reason} ->
        {:stop, {:listen, bind, port, reason}}
    end
  end

  @impl true
  def handle_call(:socket, _from, socket), do: {:reply, socket, socket}

  @impl true
  def terminate(_reason, socket), do: :gen_tcp.close(socket)

  # `::` takes IPv4 too; where the kernel has no IPv6 at all, the IPv4 wildcard stands in.
  defp listen(bind, port) do
    {:ok, address} = bind |> String.to_charlist() |> :inet.parse_address()

    case :gen_tcp.listen(port, family(address) ++ [ip: address] ++ @options) do
      {:error, :eafnosupport} when bind == "::" -> listen("0.0.0.0", port)
      result -> result
    end
  end

  defp family(address) when tuple_size(address) == 8, do: [:inet6, ipv6_v6only: false]
  defp family(_address), do: [:inet]
end
