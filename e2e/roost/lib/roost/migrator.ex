defmodule Roost.Migrator do
  @moduledoc """
  Versioned migrations as Ecto runs them: one connection holds
  `LOCK TABLE schema_migrations IN SHARE UPDATE EXCLUSIVE MODE` in a transaction, another runs
  each pending file in a transaction of its own and records its version there.
  """

  require Logger
  alias Roost.Repo.Connection

  @create "CREATE TABLE IF NOT EXISTS schema_migrations " <>
            "(version bigint PRIMARY KEY, inserted_at timestamp(0) NOT NULL)"

  @doc """
  Runs what is pending. `switch` is for tests: `"fail"`, `"hang"` or `"slow:SECONDS"`, each with
  the lock held.
  """
  def run(switch) do
    url = Application.fetch_env!(:roost, :database_url)
    lock = Connection.open!(url, "roost migrate lock")
    conn = Connection.open!(url, "roost migrate")

    Connection.query!(conn, @create)
    Connection.query!(lock, "BEGIN")
    Connection.query!(lock, "LOCK TABLE schema_migrations IN SHARE UPDATE EXCLUSIVE MODE")
    switch!(switch, conn)

    case pending(conn) do
      [] -> Logger.info("Migrations already up")
      files -> Enum.each(files, &up(&1, conn))
    end

    Connection.query!(lock, "COMMIT")
    Connection.close(conn)
    Connection.close(lock)
    Logger.flush()
  end

  @doc "The versions and paths of the files in this release, in order."
  def files do
    [:code.priv_dir(:roost), "repo/migrations/*.sql"]
    |> Path.join()
    |> Path.wildcard()
    |> Enum.sort()
    |> Enum.map(&{&1 |> Path.basename() |> Integer.parse() |> elem(0), &1})
  end

  defp pending(conn) do
    done =
      for [version] <- Connection.query!(conn, "SELECT version FROM schema_migrations"),
          do: String.to_integer(version)

    Enum.reject(files(), fn {version, _path} -> version in done end)
  end

  defp up({version, path}, conn) do
    Logger.info("== Running #{Path.basename(path)} forward")
    started = System.monotonic_time(:millisecond)
    Connection.query!(conn, "BEGIN")
    Connection.query!(conn, File.read!(path))
    Connection.query!(conn, "INSERT INTO schema_migrations VALUES (#{version}, now())")
    Connection.query!(conn, "COMMIT")
    seconds = (System.monotonic_time(:millisecond) - started) / 1000
    Logger.info("== Migrated #{version} in #{:erlang.float_to_binary(seconds, decimals: 1)}s")
  end

  defp switch!("fail", _conn), do: raise("ROOST_MIGRATE=fail: this migration fails by request")
  defp switch!("hang", conn), do: Connection.query!(conn, "SELECT pg_sleep(86400)")

  defp switch!("slow:" <> seconds, conn),
    do: Connection.query!(conn, "SELECT pg_sleep(#{String.to_integer(seconds)})")

  defp switch!(_none, _conn), do: :ok
end
