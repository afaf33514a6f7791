import Config

# Shaped like the runtime.exs that `mix phx.new` generates.

if System.get_env("PHX_SERVER") do
  config :roost, Roost.Endpoint, server: true
end

if config_env() == :prod do
  database_url =
    System.get_env("DATABASE_URL") ||
      raise """
      environment variable DATABASE_URL is missing.
      For example: ecto://USER:PASS@HOST/DATABASE
      """

  config :roost, database_url: database_url, ecto_repos: [Roost.Repo]
  config :roost, Roost.Repo, pool_size: String.to_integer(System.get_env("POOL_SIZE") || "10")

  secret_key_base =
    System.get_env("SECRET_KEY_BASE") ||
      raise """
      environment variable SECRET_KEY_BASE is missing.
      You can generate one by calling: mix phx.gen.secret
      """

  host = System.get_env("PHX_HOST") || "example.com"
  port = String.to_integer(System.get_env("PORT") || "4000")
  bind = System.get_env("ROOST_BIND") || "::"
  {:ok, ip} = bind |> String.to_charlist() |> :inet.parse_address()

  config :roost, Roost.Endpoint,
    url: [host: host, port: 443, scheme: "https"],
    http: [ip: ip, port: port]

  config :roost,
    secret_key_base: secret_key_base,
    host: host,
    port: port,
    bind: bind,
    force_ssl: System.get_env("ROOST_FORCE_SSL") == "true",
    error_rate: String.to_integer(System.get_env("ROOST_ERROR_RATE") || "0")

  config :roost, :dns_cluster_query, System.get_env("DNS_CLUSTER_QUERY")

  # "dns_cluster" (the default); "libcluster", whose Kubernetes.DNS strategy has its
  # basename in the configuration and its service's short name in an environment variable;
  # or "kubernetes", libcluster's strategy that lists the pods at the API server.
  config :roost, :cluster,
    strategy: System.get_env("ROOST_CLUSTER") || "dns_cluster",
    service: System.get_env("PHOENIX_HEADLESS_SERVICE") || System.get_env("K8S_HEADLESS_SERVICE"),
    selector: System.get_env("PHOENIX_CLUSTER_SELECTOR"),
    namespace: System.get_env("POD_NAMESPACE"),
    application_name: System.get_env("ROOST_APPLICATION_NAME") || "roost",
    interval: String.to_integer(System.get_env("ROOST_CLUSTER_INTERVAL_MS") || "5000")

  # Phoenix.Socket's defaults.
  config :roost, :drainer,
    batch_size: String.to_integer(System.get_env("ROOST_DRAIN_BATCH") || "10000"),
    batch_interval: String.to_integer(System.get_env("ROOST_DRAIN_INTERVAL_MS") || "2000"),
    shutdown: 30_000
end
