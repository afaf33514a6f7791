defmodule Roost.Http.Connection do
  @moduledoc """
  One client: its requests one after the other, with keep-alive and pipelining.

  A shutdown reaches it as an exit signal of the supervisor, after the listener was closed. An
  idle connection is then closed; a request in work is answered with `connection: close`.
  """

  alias Roost.Http.{Request, Response, Router}

  @idle_ms 60_000
  @shutdown_ms 15_000
  @linger_ms 500

  defstruct [:socket, buffer: "", draining: false]

  def child_spec(socket) do
    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [socket]},
      restart: :temporary,
      shutdown: @shutdown_ms
    }
  end

  def start_link(socket), do: {:ok, :proc_lib.spawn_link(__MODULE__, :init, [socket])}

  @doc false
  def init(socket) do
    Process.flag(:trap_exit, true)

    receive do
      :owner -> serve(%__MODULE__{socket: socket})
      :gone -> :ok
    end
  end

  defp serve(state) do
    case Request.parse(state.buffer) do
      {:ok, request, rest} -> answer(request, %{state | buffer: rest})
      {:continue, bytes} -> state |> continue(bytes) |> read()
      :more -> read(state)
      {:error, status} -> refuse(status, state)
    end
  end

  defp continue(state, bytes) do
    # Once: with the head alone in the buffer, and not again while the body arrives.
    if byte_size(state.buffer) == bytes,
      do: :gen_tcp.send(state.socket, "HTTP/1.1 100 Continue\r\n\r\n")

    state
  end

  defp read(state) do
    :inet.setopts(state.socket, active: :once)

    receive do
      {:tcp, _socket, data} -> serve(%{state | buffer: state.buffer <> data})
      {:tcp_closed, _socket} -> :ok
      {:tcp_error, _socket, _reason} -> :ok
      {:EXIT, _from, _reason} -> last_read(%{state | draining: true})
    after
      @idle_ms -> :gen_tcp.close(state.socket)
    end
  end

  # What the client had sent before it could know is still answered.
  defp last_read(%{buffer: ""} = state) do
    receive do
      {:tcp, _socket, data} -> serve(%{state | buffer: data})
    after
      0 -> :gen_tcp.close(state.socket)
    end
  end

  defp last_read(state), do: read(state)

  defp answer(request, state) do
    started = System.monotonic_time(:microsecond)

    case Router.call(request) do
      :stream ->
        Response.stream(state.socket)

      response ->
        state = note_drain(state)
        keep? = request.keep_alive and not state.draining
        sent = Response.send(state.socket, request, response, keep?)
        Roost.Metrics.request(response.status, System.monotonic_time(:microsecond) - started)
        proceed(sent, keep?, state)
    end
  end

  defp proceed(:ok, true, state), do: serve(state)
  defp proceed(:ok, false, state), do: linger(state.socket)
  defp proceed({:error, _reason}, _keep, state), do: :gen_tcp.close(state.socket)

  defp refuse(status, state) do
    request = %Request{method: "GET", path: "/", keep_alive: false}
    Response.send(state.socket, request, Response.text(status, "refused\n"), false)
    linger(state.socket)
  end

  defp note_drain(state) do
    receive do
      {:EXIT, _from, _reason} -> %{state | draining: true}
    after
      0 -> state
    end
  end

  # Closing with unread input would make the kernel reset the connection, and the client lose
  # the answer; so the client closes first, if it does so soon.
  defp linger(socket) do
    :gen_tcp.shutdown(socket, :write)
    wait_closed(socket)
  end

  defp wait_closed(socket) do
    :inet.setopts(socket, active: :once)

    receive do
      {:tcp, _socket, _data} -> wait_closed(socket)
      {:tcp_closed, _socket} -> :ok
    after
      @linger_ms -> :gen_tcp.close(socket)
    end
  end
end
