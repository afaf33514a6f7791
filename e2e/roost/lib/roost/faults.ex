defmodule Roost.Faults do
  @moduledoc "Lets ROOST_ERROR_RATE percent of the requests fail, evenly spread."

  def child_spec(_opts), do: %{id: __MODULE__, start: {__MODULE__, :start_link, []}}

  @doc "Makes the counter; there is no process to keep."
  def start_link do
    rate = Application.get_env(:roost, :error_rate, 0)
    :persistent_term.put(__MODULE__, {:atomics.new(1, []), rate})
    :ignore
  end

  @doc "Whether this request is one of those."
  def fails? do
    {counter, rate} = :persistent_term.get(__MODULE__)
    rate > 0 and rem(:atomics.add_get(counter, 1, 1) * rate, 100) < rate
  end
end
