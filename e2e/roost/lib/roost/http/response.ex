defmodule Roost.Http.Response do
  @moduledoc "Answers, whole or as a stream of server-sent events."

  alias Roost.Json

  @tick_ms 1_000

  defstruct [:status, headers: [], body: ""]

  @doc "A JSON answer."
  def json(status, value) do
    %__MODULE__{
      status: status,
      headers: [{"content-type", "application/json; charset=utf-8"}],
      body: [Json.encode(value), ?\n]
    }
  end

  @doc "A plain text answer."
  def text(status, body) do
    %__MODULE__{
      status: status,
      headers: [{"content-type", "text/plain; charset=utf-8"}],
      body: body
    }
  end

  @doc "Writes the answer; `keep?` says whether the connection stays open."
  def send(socket, request, response, keep?) do
    head = [
      "HTTP/1.1 #{response.status} #{reason(response.status)}\r\n",
      "content-length: #{IO.iodata_length(response.body)}\r\n",
      for({name, value} <- response.headers, do: [name, ": ", value, "\r\n"]),
      "cache-control: max-age=0, private, must-revalidate\r\n",
      if(keep?, do: connection(request), else: "connection: close\r\n"),
      "\r\n"
    ]

    :gen_tcp.send(socket, [head | if(request.method == "HEAD", do: [], else: [response.body])])
  end

  # HTTP/1.0 clients have to be told that they may go on.
  defp connection(%{version: {1, 0}}), do: "connection: keep-alive\r\n"
  defp connection(_request), do: []

  @doc """
  Serves server-sent events until the client leaves or the drainer says so. A drained stream gets
  an `event: drain` and the last chunk; one that is cut by the end of the server gets neither.
  """
  def stream(socket) do
    Roost.Streams.register()

    head =
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n" <>
        "transfer-encoding: chunked\r\nconnection: close\r\n\r\n"

    :gen_tcp.send(socket, head)
    event(socket, "hello", %{node: node(), version: Roost.variant()})
    :inet.setopts(socket, active: :once)
    Process.send_after(self(), :tick, @tick_ms)
    stream_loop(socket, 1)
  end

  defp stream_loop(socket, n) do
    receive do
      :drain ->
        event(socket, "drain", %{node: node(), version: Roost.variant()})
        :gen_tcp.send(socket, "0\r\n\r\n")
        :gen_tcp.close(socket)

      :tick ->
        Process.send_after(self(), :tick, @tick_ms)
        event(socket, "tick", %{n: n, version: Roost.variant()})
        stream_loop(socket, n + 1)

      {:tcp, _socket, _ignored} ->
        :inet.setopts(socket, active: :once)
        stream_loop(socket, n)

      {:tcp_closed, _socket} ->
        :ok

      {:tcp_error, _socket, _reason} ->
        :ok

      {:EXIT, _from, _reason} ->
        :gen_tcp.close(socket)
    end
  end

  defp event(socket, name, data) do
    frame = ["event: ", name, "\ndata: ", Json.encode(data), "\n\n"]
    size = frame |> IO.iodata_length() |> Integer.to_string(16)
    :gen_tcp.send(socket, [size, "\r\n", frame, "\r\n"])
  end

  defp reason(200), do: "OK"
  defp reason(301), do: "Moved Permanently"
  defp reason(307), do: "Temporary Redirect"
  defp reason(400), do: "Bad Request"
  defp reason(404), do: "Not Found"
  defp reason(500), do: "Internal Server Error"
  defp reason(503), do: "Service Unavailable"
  defp reason(_status), do: "Status"
end
