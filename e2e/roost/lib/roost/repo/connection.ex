defmodule Roost.Repo.Connection do
  @moduledoc "One PostgreSQL connection, with errors as Elixir exceptions."

  defmodule Error do
    @moduledoc "What PostgreSQL answered, or why it could not be asked."
    defexception [:message]
  end

  @connect_timeout_ms 5_000

  @doc "Connects to a URL such as `ecto://user:password@host:5432/database`."
  def open(url, application_name) do
    options = options(url)

    # The driver crashes, and does not answer, when the server hangs up during authentication.
    result =
      try do
        :pgsql.connect(options)
      catch
        kind, reason -> {:error, {kind, reason}}
      end

    with {:ok, conn} <- result,
         {:ok, _rows} <- query(conn, "SET application_name = '#{escape(application_name)}'") do
      {:ok, conn}
    else
      {:error, %Error{} = error} -> {:error, error}
      {:error, reason} -> {:error, connect_error(options, reason)}
    end
  end

  @doc "As `open/2`, raising."
  def open!(url, application_name) do
    case open(url, application_name) do
      {:ok, conn} -> conn
      {:error, error} -> raise error
    end
  end

  @doc """
  Runs one statement and returns its rows, values as strings.

  A time-out leaves the connection in use; the caller has to `kill/1` it.
  """
  def query(conn, sql, timeout_ms \\ :infinity) do
    {:ok, results} = :pgsql.squery(conn, sql, timeout_ms)

    case List.keyfind(results, :error, 0) do
      nil -> {:ok, Enum.flat_map(results, &rows/1)}
      {:error, fields} -> {:error, %Error{message: message(fields)}}
    end
  catch
    :exit, reason ->
      {:error, %Error{message: "connection lost: #{Exception.format_exit(reason)}"}}
  end

  @doc "As `query/2`, raising."
  def query!(conn, sql) do
    case query(conn, sql) do
      {:ok, rows} -> rows
      {:error, error} -> raise error
    end
  end

  @doc "Says goodbye to the server."
  def close(conn) do
    :pgsql.terminate(conn)
  catch
    :exit, _reason -> :ok
  end

  @doc "Ends a connection that no longer answers."
  def kill(conn), do: Process.exit(conn, :kill)

  defp rows({_command, _columns, rows}), do: rows
  defp rows(_command), do: []

  defp message(fields) do
    field = fn key -> to_string(:proplists.get_value(key, fields, "")) end
    "#{field.(:severity)} #{field.(:code)} #{field.(:message)}"
  end

  defp connect_error(options, reason) do
    reason =
      case reason do
        {:init, {:error, posix}} -> "#{:inet.format_error(posix)} - #{inspect(posix)}"
        {:authentication, fields} when is_list(fields) -> message(fields)
        {:error_response, fields} -> message(fields)
        other -> inspect(other)
      end

    %Error{message: "tcp connect (#{options[:host]}:#{options[:port]}): #{reason}"}
  end

  defp options(url) do
    uri = URI.parse(url)
    [user, password] = String.split((uri.userinfo || "postgres") <> ":", ":", parts: 2)

    [
      host: String.to_charlist(uri.host || "localhost"),
      port: uri.port || 5432,
      user: decode(user),
      password: password |> String.trim_trailing(":") |> decode(),
      database: uri.path |> Kernel.||("/") |> String.trim_leading("/") |> decode(),
      as_binary: true,
      connect_timeout: @connect_timeout_ms
    ]
  end

  defp decode(part), do: part |> URI.decode() |> String.to_charlist()
  defp escape(text), do: String.replace(text, "'", "''")
end
