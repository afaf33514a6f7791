# Runs under `bin/<release> eval`: the configuration is loaded, nothing is started. Values of secrets are never printed.
text = fn
  value when is_binary(value) -> value
  value -> inspect(value, limit: 20, printable_limit: 200)
end

say = fn key, value ->
  value = value |> text.() |> String.replace(["\t", "\n", "\r"], " ")
  IO.puts("phx-doctor\t" <> key <> "\t" <> value)
end

dig = fn conf, keys ->
  Enum.reduce(keys, conf, fn key, found ->
    if Keyword.keyword?(found), do: Keyword.get(found, key), else: nil
  end)
end

try_all = fn what, act ->
  try do
    act.()
  rescue
    error -> say.("trouble", what <> ": " <> Exception.message(error))
  end
end

for file <- Path.wildcard(Path.join(to_string(:code.root_dir()), "lib/*/ebin/*.app")) do
  file |> Path.basename(".app") |> String.to_atom() |> Application.load()
end

say.("elixir", System.version())
say.("otp", to_string(:erlang.system_info(:otp_release)))
say.("phoenix", to_string(Application.spec(:phoenix, :vsn) || "none"))
say.("env.PHX_HOST", System.get_env("PHX_HOST") || "")
say.("env.PORT", System.get_env("PORT") || "")

apps = for {app, _, _} <- Application.loaded_applications(), do: app

for app <- apps, {module, conf} <- Application.get_all_env(app), is_atom(module), Keyword.keyword?(conf) do
  try_all.(inspect(module), fn ->
    loaded = String.starts_with?(Atom.to_string(module), "Elixir.") and Code.ensure_loaded?(module)

    if loaded and function_exported?(module, :struct_url, 0) and function_exported?(module, :broadcast, 3) do
      say.("endpoint", inspect(module))
      serves = Application.get_env(:phoenix, :serve_endpoints, false)
      say.("endpoint.server", Keyword.get(conf, :server, serves))
      say.("endpoint.host", dig.(conf, [:url, :host]) || "localhost")
      say.("endpoint.check_origin", Keyword.get(conf, :check_origin, true))
      say.("endpoint.force_ssl", Keyword.get(conf, :force_ssl, false))
      say.("endpoint.ip", dig.(conf, [:http, :ip]) || "any")
      say.("endpoint.port", dig.(conf, [:http, :port]) || "none")
      shutdown = dig.(conf, [:http, :thousand_island_options, :shutdown_timeout]) || 15_000
      say.("endpoint.shutdown_ms", shutdown)

      if function_exported?(module, :__sockets__, 0) do
        for {path, _socket, opts} <- module.__sockets__() do
          shutdown =
            case Keyword.get(opts, :drainer, []) do
              false -> 0
              drainer when is_list(drainer) -> Keyword.get(drainer, :shutdown, 30_000)
              _ -> 30_000
            end

          say.("socket.shutdown_ms", "#{path} #{inspect(shutdown)}")
        end
      end
    end

    if loaded and Keyword.has_key?(conf, :queues) and Keyword.has_key?(conf, :repo) do
      say.("oban.shutdown_ms", Keyword.get(conf, :shutdown_grace_period, 15_000))
    end
  end)
end

for app <- apps do
  try_all.("repos of #{app}", fn ->
    for repo <- Application.get_env(app, :ecto_repos) || [] do
      conf = Application.get_env(app, repo, [])
      count = Keyword.get(conf, :pool_count, 1)
      say.("repo", "#{inspect(repo)} #{Keyword.get(conf, :pool_size, 10) * count}")
      say.("repo.ipv6", :inet6 in (Keyword.get(conf, :socket_options) || []))
    end

    query = Application.get_env(app, :dns_cluster_query)
    if query, do: say.("dns_cluster", query)
  end)
end

try_all.("libcluster", fn ->
  for {name, topology} <- Application.get_env(:libcluster, :topologies) || [] do
    say.("libcluster", "#{name} #{inspect(Keyword.get(topology, :strategy))}")
  end
end)

try_all.("env.sh", fn ->
  file = Path.join([System.get_env("RELEASE_ROOT") || "", "releases", System.get_env("RELEASE_VSN") || "", "env.sh"])

  with {:ok, script} <- File.read(file) do
    for [_, name] <- Regex.scan(~r/^[^#\n]*?\b(?:export\s+)?([A-Z][A-Z0-9_]*)=/m, script) do
      say.("env.sh", name)
    end
  end
end)
