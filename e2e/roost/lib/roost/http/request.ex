defmodule Roost.Http.Request do
  @moduledoc "A request, parsed from what has arrived so far."

  @max_head 65_536
  @max_body 8_388_608

  defstruct [
    :method,
    :path,
    query: %{},
    target: "/",
    headers: %{},
    version: {1, 1},
    keep_alive: true
  ]

  @doc """
  `{:ok, request, rest}`; `:more` when bytes are missing; `{:continue, head_bytes}` when the client
  waits for a `100 Continue` before it sends its body; `{:error, status}` for what is not served.
  """
  def parse(buffer) do
    case :binary.match(buffer, "\r\n\r\n") do
      {at, 4} -> buffer |> head() |> with_body(buffer, at + 4)
      :nomatch when byte_size(buffer) > @max_head -> {:error, 431}
      :nomatch -> :more
    end
  end

  defp head(buffer) do
    with {:ok, {:http_request, method, {:abs_path, target}, version}, rest} <-
           :erlang.decode_packet(:http_bin, buffer, []),
         {:ok, headers} <- headers(rest, %{}) do
      uri = URI.parse(target)

      {:ok,
       %__MODULE__{
         method: to_string(method),
         path: uri.path || "/",
         query: URI.decode_query(uri.query || ""),
         target: target,
         headers: headers,
         version: version,
         keep_alive: keep_alive?(version, headers["connection"])
       }}
    else
      _malformed -> {:error, 400}
    end
  rescue
    # A percent sign with nothing behind it.
    ArgumentError -> {:error, 400}
  end

  defp headers(buffer, found) do
    case :erlang.decode_packet(:httph_bin, buffer, []) do
      {:ok, {:http_header, _, name, _, value}, rest} ->
        headers(rest, Map.put(found, name |> to_string() |> String.downcase(), value))

      {:ok, :http_eoh, _rest} ->
        {:ok, found}

      _malformed ->
        :error
    end
  end

  defp with_body({:error, status}, _buffer, _head), do: {:error, status}

  defp with_body({:ok, %{headers: %{"transfer-encoding" => _}}}, _buffer, _head),
    do: {:error, 501}

  defp with_body({:ok, request}, buffer, head) do
    case Integer.parse(Map.get(request.headers, "content-length", "0")) do
      {length, ""} when length > @max_body -> {:error, 413}
      {length, ""} when length >= 0 -> skip_body(request, buffer, head, length)
      _malformed -> {:error, 400}
    end
  end

  # No route reads a body; it only must not be taken for the next request.
  defp skip_body(request, buffer, head, length) do
    case buffer do
      <<_head::binary-size(head), _body::binary-size(length), rest::binary>> ->
        {:ok, request, rest}

      _short when is_map_key(request.headers, "expect") ->
        {:continue, head}

      _short ->
        :more
    end
  end

  defp keep_alive?(version, connection) do
    case {version, String.downcase(connection || "")} do
      {_version, "close"} -> false
      {{1, 0}, "keep-alive"} -> true
      {{1, 0}, _other} -> false
      _http_1_1 -> true
    end
  end
end
