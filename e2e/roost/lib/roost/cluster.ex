defmodule Roost.Cluster do
  @moduledoc """
  Finds the other nodes in one of the ways that releases do, and remembers every one it ever saw.

    * `dns_cluster`: A and AAAA records of DNS_CLUSTER_QUERY; the basename of the others is this
      node's own; nodes are connected and never disconnected.
    * `libcluster`, as its `Kubernetes.DNS`: A records of the service's short name; the basename
      comes from the configuration; a name that leaves DNS, or a lookup that fails, disconnects.
    * `kubernetes`, as libcluster's `Kubernetes`: the pods that the API server lists for
      PHOENIX_CLUSTER_SELECTOR; else as above.
  """

  use GenServer
  require Logger

  def start_link(_opts), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Names of the nodes that were ever connected, also for a moment."
  def ever, do: __MODULE__ |> :persistent_term.get(MapSet.new()) |> Enum.sort()

  @impl true
  def init(nil) do
    query = Application.get_env(:roost, :dns_cluster_query)
    config = [{:query, query} | Application.fetch_env!(:roost, :cluster)]

    cond do
      not Node.alive?() -> :ignore
      config[:strategy] == "libcluster" and config[:service] -> begin(:libcluster, config)
      config[:strategy] == "kubernetes" and config[:selector] -> begin(:kubernetes, config)
      config[:strategy] == "dns_cluster" and config[:query] -> begin(:dns_cluster, config)
      true -> :ignore
    end
  end

  @impl true
  def handle_continue(:poll, state), do: {:noreply, poll(state)}

  @impl true
  def handle_info(:poll, state), do: {:noreply, poll(state)}

  def handle_info({:nodeup, name}, state) do
    remember([name])
    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  defp begin(strategy, config) do
    :net_kernel.monitor_nodes(true)
    # Others may have found this node before its application started.
    remember(Node.list())
    {:ok, %{strategy: strategy, config: config, known: MapSet.new()}, {:continue, :poll}}
  end

  defp remember(names) do
    :persistent_term.put(__MODULE__, MapSet.union(MapSet.new(ever()), MapSet.new(names)))
  end

  defp poll(state) do
    state = discover(state)
    Process.send_after(self(), :poll, state.config[:interval])
    state
  end

  defp discover(%{strategy: :dns_cluster, config: config} = state) do
    [basename, _host] = String.split("#{node()}", "@")

    found = nodes(basename, lookup(config[:query], :a) ++ lookup(config[:query], :aaaa))
    for name <- found -- Node.list(), do: connect(name)
    state
  end

  defp discover(%{strategy: :libcluster, config: config} = state) do
    connected(state, nodes(config[:application_name], lookup(config[:service], :a)))
  end

  defp discover(%{strategy: :kubernetes, config: config} = state) do
    case Roost.Cluster.Kubernetes.addresses(config[:namespace], config[:selector]) do
      {:ok, addresses} ->
        connected(state, nodes(config[:application_name], addresses))

      {:error, reason} ->
        Logger.warning("[libcluster] request to the API server failed: #{inspect(reason)}")
        connected(state, [])
    end
  end

  # What libcluster's strategies share: what is no longer found is disconnected.
  defp connected(state, found) do
    found = MapSet.new(found)

    for name <- MapSet.difference(state.known, found) do
      Logger.warning("[libcluster] disconnecting from #{name}")
      Node.disconnect(name)
    end

    for name <- found, name not in Node.list(), do: connect(name)
    %{state | known: found}
  end

  defp connect(name) do
    if Node.connect(name) != true, do: Logger.warning("unable to connect to #{name}")
  end

  defp nodes(basename, addresses) do
    for address <- addresses,
        name = :"#{basename}@#{:inet.ntoa(address)}",
        name != node(),
        do: name
  end

  # `getbyname` follows the search list of /etc/resolv.conf, `lookup` would not.
  defp lookup(query, type) do
    case :inet_res.getbyname(String.to_charlist(query), type) do
      {:ok, {:hostent, _name, _aliases, _type, _length, addresses}} -> addresses
      {:error, _reason} -> []
    end
  end
end
