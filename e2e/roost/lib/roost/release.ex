defmodule Roost.Release do
  @moduledoc "Tasks for `bin/roost eval`, where the application itself is not started."

  @doc "Runs the pending migrations; raises, so that the exit status is 1, if one fails."
  def migrate do
    Application.load(:roost)
    {:ok, _started} = Application.ensure_all_started(:p1_pgsql)
    {:ok, _started} = Application.ensure_all_started(:crypto)
    Roost.Migrator.run(System.get_env("ROOST_MIGRATE"))
  end
end
