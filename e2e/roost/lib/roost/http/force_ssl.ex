defmodule Roost.Http.ForceSsl do
  @moduledoc """
  `force_ssl` as `mix phx.new` 1.8 writes it: `rewrite_on: [:x_forwarded_proto]`, hosts
  `localhost` and `127.0.0.1` excluded. Plain requests are sent to the URL's own host (PHX_HOST).
  On with ROOST_FORCE_SSL=true.
  """

  alias Roost.Http.Response

  @excluded ["localhost", "127.0.0.1"]
  @hsts {"strict-transport-security", "max-age=31536000"}

  @doc "Whether the request may be answered, and with which headers."
  def check(request) do
    cond do
      not Application.get_env(:roost, :force_ssl, false) -> :pass
      host(request) in @excluded -> :pass
      request.headers["x-forwarded-proto"] == "https" -> {:secure, [@hsts]}
      true -> {:redirect, redirect(request)}
    end
  end

  defp redirect(request) do
    status = if request.method in ["GET", "HEAD"], do: 301, else: 307
    location = "https://#{Application.fetch_env!(:roost, :host)}#{request.target}"
    %Response{status: status, headers: [{"location", location}]}
  end

  defp host(request), do: request.headers |> Map.get("host", "") |> String.split(":") |> hd()
end
