defmodule Roost.Streams do
  @moduledoc "The processes that serve a long-lived stream at the moment."

  def child_spec(_opts), do: Registry.child_spec(keys: :duplicate, name: __MODULE__)

  @doc "Called by the process that serves the stream."
  def register, do: Registry.register(__MODULE__, :stream, nil)

  @doc "Every process that serves one."
  def pids, do: for({pid, _value} <- Registry.lookup(__MODULE__, :stream), do: pid)
end
