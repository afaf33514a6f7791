defmodule Roost.Metrics do
  @moduledoc "Requests by status and a histogram of their durations, under the names PromEx gives."

  @buckets_ms [10, 100, 500, 1_000, 5_000, 10_000, 30_000]
  @infinite length(@buckets_ms) + 1
  @sum_us @infinite + 1
  @prefix "roost_prom_ex_phoenix_http_request"

  def child_spec(_opts), do: %{id: __MODULE__, start: {__MODULE__, :start_link, []}}

  @doc "Makes the counters; there is no process to keep."
  def start_link do
    :persistent_term.put(__MODULE__, {:counters.new(599, []), :counters.new(@sum_us, [])})
    :ignore
  end

  @doc "Counts one answered request."
  def request(status, microseconds) do
    {statuses, durations} = :persistent_term.get(__MODULE__)
    :counters.add(statuses, status, 1)
    :counters.add(durations, bucket(microseconds / 1000), 1)
    :counters.add(durations, @sum_us, microseconds)
  end

  @doc "The text that Prometheus scrapes."
  def text(streams) do
    {statuses, durations} = :persistent_term.get(__MODULE__)

    counts =
      for status <- 100..599, (count = :counters.get(statuses, status)) > 0, do: {status, count}

    {buckets, total} =
      Enum.map_reduce(1..@infinite, 0, fn index, sum ->
        sum = sum + :counters.get(durations, index)
        {{Enum.at(@buckets_ms, index - 1, "+Inf"), sum}, sum}
      end)

    [
      "# TYPE #{@prefix}s_total counter\n",
      for({status, count} <- counts, do: ~s(#{@prefix}s_total{status="#{status}"} #{count}\n)),
      "# TYPE #{@prefix}_duration_milliseconds histogram\n",
      for {le, count} <- buckets do
        ~s(#{@prefix}_duration_milliseconds_bucket{le="#{le}"} #{count}\n)
      end,
      "#{@prefix}_duration_milliseconds_sum #{:counters.get(durations, @sum_us) / 1000}\n",
      "#{@prefix}_duration_milliseconds_count #{total}\n",
      "# TYPE roost_streams gauge\nroost_streams #{streams}\n",
      "# TYPE roost_cluster_nodes gauge\nroost_cluster_nodes #{length(Node.list()) + 1}\n",
      "# TYPE roost_info gauge\n",
      ~s(roost_info{version="#{Roost.variant()}"} 1\n)
    ]
  end

  defp bucket(milliseconds) do
    1 + (Enum.find_index(@buckets_ms, &(milliseconds <= &1)) || length(@buckets_ms))
  end
end
