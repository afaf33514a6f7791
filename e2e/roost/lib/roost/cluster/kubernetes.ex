defmodule Roost.Cluster.Kubernetes do
  @moduledoc """
  The addresses of the pods that a selector names, as libcluster's `Kubernetes` strategy asks the
  API server for them: with the token that is mounted into the pod.
  """

  @mounted "/var/run/secrets/kubernetes.io/serviceaccount"

  @doc "Addresses of the selected pods of the namespace. Errors: the server's answer."
  def addresses(namespace, selector) do
    query = URI.encode_query(labelSelector: selector)

    case get("/api/v1/namespaces/#{namespace}/pods?#{query}") do
      {200, body} -> {:ok, parse(body)}
      other -> {:error, other}
    end
  end

  @doc "One GET to the API server: status and body, or why there is none."
  def get(path) do
    # By its name, as libcluster does: OTP 25 compares no addresses with a certificate's.
    port = System.fetch_env!("KUBERNETES_SERVICE_PORT")
    url = ~c"https://kubernetes.default.svc:#{port}#{path}"
    token = File.read!(Path.join(@mounted, "token"))

    ssl = [
      verify: :verify_peer,
      cacertfile: String.to_charlist(Path.join(@mounted, "ca.crt")),
      customize_hostname_check: [match_fun: :public_key.pkix_verify_hostname_match_fun(:https)]
    ]

    request = {url, [{~c"authorization", ~c"Bearer #{token}"}]}

    case :httpc.request(:get, request, [ssl: ssl, timeout: 5_000], body_format: :binary) do
      {:ok, {{_version, status, _reason}, _headers, body}} -> {status, body}
      {:error, reason} -> {:error, reason}
    end
  end

  # No decoder is at hand, and this one member has its name nowhere else in a pod.
  defp parse(body) do
    for [_all, address] <- Regex.scan(~r/"podIP":\s*"([^"]+)"/, body),
        {:ok, parsed} = address |> String.to_charlist() |> :inet.parse_address(),
        do: parsed
  end
end
