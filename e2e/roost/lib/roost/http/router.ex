defmodule Roost.Http.Router do
  @moduledoc "What each path answers."

  alias Roost.Http.{ForceSsl, Request, Response}
  alias Roost.Repo

  @secret ~r/SECRET|COOKIE|PASSWORD|TOKEN|KEY|DATABASE_URL|DSN|CREDENTIAL/i

  @doc "The answer to a request, or `:stream` for a long-lived one."
  def call(%Request{} = request) do
    case ForceSsl.check(request) do
      :pass -> route(request.path, request)
      {:redirect, response} -> response
      {:secure, headers} -> request.path |> route(request) |> add_headers(headers)
    end
  end

  # Users' requests fail as asked for; probes and scrapes go on, as they do where one page is broken.
  defp route(path, request) when path in ["/health", "/ready", "/metrics"],
    do: answer(path, request)

  defp route(path, request) do
    if Roost.Faults.fails?(),
      do: Response.json(500, %{error: "fails by design", version: Roost.variant()}),
      else: answer(path, request)
  end

  defp answer("/health", _request), do: Response.json(200, %{status: "healthy"})

  defp answer("/ready", _request) do
    with :ok <- variant_ready(Roost.variant()),
         {:ok, _rows} <- Repo.query("SELECT 1", 1_000) do
      Response.json(200, %{status: "ready"})
    else
      {:error, error} -> unready(error)
    end
  end

  defp answer("/version", _request) do
    Response.json(200, %{
      version: Roost.variant(),
      vsn: Roost.vsn(),
      node: node(),
      revision: System.get_env("PHOENIX_REVISION"),
      pod: System.get_env("POD_NAME")
    })
  end

  defp answer("/nodes", _request) do
    Response.json(200, %{node: node(), nodes: Enum.sort(Node.list()), ever: Roost.Cluster.ever()})
  end

  defp answer("/db", _request) do
    columns =
      "SELECT column_name FROM information_schema.columns " <>
        "WHERE table_schema = 'public' AND table_name = 'birds' ORDER BY ordinal_position"

    with {:ok, migrations} <-
           Repo.query("SELECT version FROM schema_migrations ORDER BY version"),
         {:ok, columns} <- Repo.query(columns) do
      migrations = for [version] <- migrations, do: String.to_integer(version)
      Response.json(200, %{migrations: migrations, birds: List.flatten(columns)})
    else
      {:error, error} -> unready(error)
    end
  end

  defp answer("/env", _request) do
    env = System.get_env()
    values = Map.reject(env, fn {name, _value} -> name =~ @secret end)
    Response.json(200, %{names: env |> Map.keys() |> Enum.sort(), values: values})
  end

  defp answer("/metrics", _request) do
    Response.text(200, Roost.Metrics.text(length(Roost.Streams.pids())))
  end

  defp answer("/slow", request) do
    milliseconds = number(request.query["ms"], 1_000)
    Process.sleep(milliseconds)
    Response.json(200, %{slept: milliseconds, version: Roost.variant()})
  end

  defp answer("/stream", _request), do: :stream

  # A wanted status, for tests of what counts them.
  defp answer("/status/" <> code, _request) do
    case number(code, 0) do
      status when status in 200..599 -> Response.json(status, %{status: status})
      _other -> Response.json(400, %{error: "a status between 200 and 599 is wanted"})
    end
  end

  defp answer("/", _request), do: Response.text(200, "roost #{Roost.variant()}\n")
  defp answer(_path, _request), do: Response.json(404, %{error: "not found"})

  defp variant_ready("neverready"), do: {:error, %RuntimeError{message: "never ready by design"}}
  defp variant_ready(_variant), do: :ok

  defp unready(error) do
    Response.json(503, %{status: "unavailable", error: Exception.message(error)})
  end

  defp number(text, default) do
    case Integer.parse(text || "") do
      {number, ""} when number >= 0 -> number
      _other -> default
    end
  end

  defp add_headers(:stream, _headers), do: :stream
  defp add_headers(response, headers), do: %{response | headers: response.headers ++ headers}
end
